//! Whatever is wrong is said clearly, with its place and what to do, and production stays untouched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use entracte_testbed::process::{is_root, wait_until};
use site::{ENTRACTE, PATIENCE_MS, Server, Site, free_address, said};

/// A site with 1.1 packed and the gate running.
fn packed() -> Site {
    let mut site = Site::new();
    site.up();
    site.develop("1.1");
    site.ok(&["pack", "1.1"]);
    site
}

/// The command is refused with `code` and all of `words`, and production is what it was.
fn untouched(site: &Site, code: i32, args: &[&str], words: &[&str]) -> String {
    let before = site.production();
    let text = site.says(code, args, words);
    assert_eq!(site.production(), before, "entracte {args:?} said:\n{text}");
    text
}

const DEPLOY: &[&str] = &["deploy", "1.1", "--yes"];

#[test]
fn a_wrong_configuration_is_named_with_its_place_and_the_nearest_right_one() {
    let site = Site::new();
    let original = fs::read_to_string(site.dev.join("entracte.toml")).unwrap();
    let with = |from: &str, to: &str, words: &[&str]| {
        site.edit(from, to);
        let said_it = said(&site.run(&["status"]));
        assert!(words.iter().all(|word| said_it.contains(word)), "{from} -> {to}: {said_it}");
        let text = site.exits(2, &["status"]);
        assert!(text.contains("entracte.toml"), "{text}");
        fs::write(site.dev.join("entracte.toml"), &original).unwrap();
    };
    with("persist =", "persists =", &["entracte.toml:10: unknown key", "did you mean `persist`?"]);
    with("[target.production.pace]", "[target.production.paces]", &["did you mean `pace`?"]);
    with("[source]", "[sauce]", &["unknown key `sauce`", "did you mean `source`?"]);
    with(
        "contains =",
        "contain =",
        &["target.production.smoke.contain", "did you mean `contains`?"],
    );
    with("drain = \"0s\"", "drain = \"soon\"", &["expected a duration such as 300ms", "\"soon\""]);
    with("drain = \"0s\"", "drain = 5", &["entracte.toml:", "expected a string"]);
    with("daily_at = \"23:59\"", "daily_at = \"25:00\"", &["expected a time such as 04:30"]);
    with("engine = \"sqlite\"", "engine = \"oracle\"", &["oracle", "sqlite", "mariadb"]);
    with("path = \"../game.sqlite\"", "", &["target.production.database.path", "is needed"]);
    with("upstream = \"", "upstream = \"nonsense:", &["target.production.gate.upstream"]);
    with(
        "GET /version.txt",
        "/version.txt",
        &["entracte.toml:", "a method and a path such as `GET /`"],
    );
    with("http = \"GET /version.txt\"\n", "", &["`http`, `sql` or `command`"]);
    with("http = \"GET", "sql = \"GET", &["`contains` does not belong", "name, sql, equals"]);
    with(
        "state = \"../state\"",
        "state = \"../www/game/state\"",
        &["target.production.state", "lie in one another"],
    );
    with("root = \"../www/game\"\n", "", &["missing field `root`"]);
    with("project = \"inn\"", "project = inn", &["entracte.toml:1"]);
    with("project = \"inn\"", "project = \"in/n\"", &["expected letters, digits"]);
    with("[target.production]\n", "[target.production]\nsmoke_passes = 0\n", &["at least 1"]);

    site.says(
        2,
        &["status", "--target", "prodution"],
        &["no target `prodution`", "did you mean `production`?"],
    );
    site.says(
        2,
        &["status", "--target", "xyz"],
        &["no target `xyz`", "expected one of: production"],
    );
    site.says(2, &["status", "--config", "/nowhere/x.toml"], &["/nowhere/x.toml cannot be read"]);
    let lost = Command::new(ENTRACTE)
        .arg("status")
        .current_dir("/")
        .env_remove("ENTRACTE_CONFIG")
        .output()
        .unwrap();
    assert_eq!(lost.status.code(), Some(2));
    assert!(said(&lost).contains("`entracte init` writes one"), "{}", said(&lost));
}

#[test]
fn a_database_that_cannot_be_used_is_said_without_its_secret() {
    let secret = "correct-horse-battery-staple";
    let site = packed();
    let file = site.at("db.password");
    fs::write(&file, secret).unwrap();
    let nobody = free_address();
    let (_, port) = nobody.split_once(':').unwrap();
    let lines = format!(
        "engine = \"mariadb\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"game\"\ndatabase = \"game\"\n\
         password_file = {file:?}\n"
    );
    site.edit("engine = \"sqlite\"\npath = \"../game.sqlite\"\n", &lines);
    let text = untouched(&site, 3, DEPLOY, &["connecting to the database", "nothing was changed"]);
    assert!(!text.contains(secret), "{text}");
    assert!(site.exits(3, &["doctor"]).contains("✗"));
    let log = site.ok(&["log"]) + &site.up_log();
    assert!(!log.contains(secret), "{log}");
    fs::remove_file(&file).unwrap();
    site.says(2, &["plan"], &["db.password cannot be read"]);
}

#[test]
fn a_wrong_password_is_said_without_it() {
    let server = entracte_testbed::mariadb::Mariadb::start();
    server.create_database("game", "game", "right");
    let site = packed();
    let lines = format!(
        "engine = \"mariadb\"\nsocket = {:?}\nuser = \"game\"\ndatabase = \"game\"\n\
         password_env = \"GAME_PASSWORD\"\n",
        server.socket()
    );
    site.edit("engine = \"sqlite\"\npath = \"../game.sqlite\"\n", &lines);
    site.says(2, &["plan"], &["the environment variable GAME_PASSWORD is not set"]);
    let secret = "wrong-horse-battery-staple";
    let before = site.production();
    let output = site.command(DEPLOY).env("GAME_PASSWORD", secret).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("Access denied"), "{text}");
    assert_eq!(site.production(), before);
    let log = site.command(&["log", "--json"]).env("GAME_PASSWORD", secret).output().unwrap();
    assert!(!(text + &said(&log)).contains(secret));
}

#[test]
fn a_package_that_is_not_what_was_signed_for_here_is_refused() {
    let site = packed();
    let archive = site.dev.join("dist/inn-1.1.0.tar.zst");
    let good = fs::read(&archive).unwrap();
    let shown = archive.display().to_string();
    // Wherever one byte of what is packed is changed, the package is no longer good.
    for part in [good.len() / 4, good.len() / 2, good.len() * 3 / 4] {
        let mut bad = good.clone();
        bad[part] ^= 1;
        fs::write(&archive, &bad).unwrap();
        untouched(&site, 3, &["verify", &shown], &["error:"]);
        untouched(&site, 3, DEPLOY, &[]);
    }
    fs::write(&archive, &good[..good.len() / 2]).unwrap();
    untouched(&site, 3, DEPLOY, &["error:"]);
    fs::write(&archive, &good).unwrap();
    untouched(&site, 2, &["deploy", "nonsense", "--yes"], &["neither a package nor a version"]);

    // Signed by somebody else.
    let stranger = entracte_package::keys::generate(&site.at("stranger.key")).unwrap().0;
    let own = entracte_package::keys::public(&site.at("sign.key")).unwrap().0;
    site.edit(&own, &stranger);
    untouched(&site, 3, DEPLOY, &["which is not trusted here", "`keys` of the target"]);
    site.edit(&stranger, &own);

    // For another game, for another environment.
    site.edit("project = \"inn\"", "project = \"other\"");
    untouched(
        &site,
        3,
        &["deploy", &shown, "--yes"],
        &["the package is for inn/production", "other/production"],
    );
    site.edit("project = \"other\"", "project = \"inn\"");
    let text = fs::read_to_string(site.dev.join("entracte.toml")).unwrap();
    fs::write(site.dev.join("entracte.toml"), text.replace("target.production", "target.staging"))
        .unwrap();
    untouched(&site, 3, DEPLOY, &["the package is for inn/production", "inn/staging"]);
    fs::write(site.dev.join("entracte.toml"), text).unwrap();

    // Once it was deployed it is never taken again, and no older version either.
    site.ok(DEPLOY);
    untouched(&site, 3, DEPLOY, &["cannot be replayed"]);
    untouched(&site, 3, &["pack", "1.0"], &["not newer than production's 1.1.0"]);
}

#[test]
fn what_production_is_not_ready_for_is_refused() {
    let mut site = packed();
    fs::write(site.root.join("index.html"), "<h1>by hand</h1>\n").unwrap();
    untouched(&site, 3, DEPLOY, &["changed by hand", "~index.html", "nothing was changed"]);
    fs::write(site.root.join("index.html"), "<h1>The inn</h1>\n").unwrap();

    drop(site.game.take());
    untouched(&site, 3, DEPLOY, &["the game does not answer behind the gate"]);
    site.says(3, &["doctor"], &["the game behind it does not answer"]);
    site.down();
    untouched(&site, 3, DEPLOY, &["the gate does not answer", "entracte up"]);
    site.says(1, &["gate", "close"], &["the gate does not run"]);
    site.says(0, &["history"], &["taken back"]);
    assert_eq!(site.json(3, &["deploy", "1.0", "--yes"])["exit"], 3);
}

#[test]
fn nothing_to_write_into_is_said_before_anything_is_tried() {
    let site = Site::new();
    fs::write(site.at("file"), "").unwrap();
    site.edit("state = \"../state\"", "state = \"../file/state\"");
    site.says(1, &["init", "--production-version", "1.0"], &["file/state", "cannot be made"]);
    site.says(1, &["up"], &["file/state"]);
    site.edit("state = \"../file/state\"", "state = \"../state\"");
    site.edit("root = \"../www/game\"", "root = \"../www/nothing\"");
    site.says(3, &["doctor"], &["www/nothing is no folder", "set `root`"]);
    site.says(3, &["init", "--production-version", "1.0"], &["is no folder"]);
}

#[test]
fn a_root_that_this_user_may_not_exchange_is_refused() {
    let site = packed();
    // Root may write anywhere: what makes a folder unwritable for root is that it is immutable.
    let web = site.root.parent().unwrap().to_owned();
    let lock = |locked: bool| {
        if is_root() {
            let flag = if locked { "+i" } else { "-i" };
            let done = Command::new("chattr").arg(flag).arg(&web).output().unwrap();
            assert!(
                done.status.success(),
                "chattr needs a file system with attributes: {}",
                said(&done)
            );
        } else {
            let mode = if locked { 0o555 } else { 0o755 };
            fs::set_permissions(&web, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    lock(true);
    let before = site.production();
    let output = site.run(DEPLOY);
    let doctor = site.run(&["doctor"]);
    lock(false);
    let code = output.status.code();
    assert!(code == Some(3) || code == Some(4), "{}", said(&output));
    assert!(said(&output).contains(".game.entracte"), "{}", said(&output));
    assert!(said(&doctor).contains("the new tree is built beside the root"), "{}", said(&doctor));
    assert_eq!(site.production(), before);
    site.ok(DEPLOY);
}

#[test]
fn a_hook_that_fails_or_hangs_takes_the_release_back() {
    let site = packed();
    let hooks = "[target.production.hooks]\ntimeout = \"1s\"\nreload = [\"HOOK\"]\n\n[target.production.pace]";
    site.edit("[target.production.pace]", hooks);
    let failed = site.at("failed");
    let once = |command: &str| {
        let failed = failed.display();
        format!("test -e {failed} || {{ touch {failed}; {command}; }}")
    };
    site.edit("HOOK", &once("echo no such service; exit 7"));
    untouched(&site, 4, DEPLOY, &["reload", "no such service", "production is 1.0.0, to the byte"]);
    site.edit(&once("echo no such service; exit 7"), &once("sleep 300"));
    fs::remove_file(&failed).unwrap();
    untouched(&site, 4, DEPLOY, &["reload", "production is 1.0.0, to the byte"]);

    // One that fails on the way back, too, is a person's to mend; the game stays closed meanwhile.
    site.edit(&once("sleep 300"), "false");
    let before = site.production();
    site.says(5, DEPLOY, &["could not be taken back", "`entracte resume` tries again"]);
    assert_eq!(site.get("/").0, 503);
    site.says(7, DEPLOY, &["r3 was interrupted", "entracte resume"]);
    site.says(5, &["resume"], &["could not be taken back"]);
    site.edit("reload = [\"false\"]", "reload = []");
    site.says(4, &["resume"], &["production is 1.0.0, to the byte"]);
    assert_eq!((site.get("/").0, site.production()), (200, before));

    site.edit("reload = []", "workers_stop = [\"false\"]");
    untouched(&site, 4, DEPLOY, &["workers_stop", "production is 1.0.0, to the byte"]);
    site.edit("workers_stop = [\"false\"]", "");
    site.ok(DEPLOY);
}

#[test]
fn a_version_that_fails_is_taken_back_and_quiet_says_why() {
    let site = packed();
    fs::write(site.dev.join("source/version.txt"), "Fatal error: Uncaught\n").unwrap();
    site.ok(&["pack", "1.1"]);
    let before = site.production();
    let output = site.run(&["deploy", "1.1", "--yes", "--quiet"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("✗ smoke") && text.contains("Fatal error"), "{text}");
    assert!(!text.contains('✓'), "{text}");
    fs::write(
        site.dev.join("SQL/11-gold.sql"),
        "UPDATE players SET gold = 0; UPDATE absent SET x = 1;\n",
    )
    .unwrap();
    site.ok(&["pack", "1.1"]);
    untouched(&site, 4, DEPLOY, &["11-gold.sql", "no such table: absent"]);
    assert_eq!(site.production(), before);
    site.says(0, &["history"], &["taken back: "]);
}

#[test]
fn duties_and_gate_are_there_once() {
    let mut site = Site::new();
    site.up();
    site.says(3, &["up"], &["looks after production already", "process"]);
    site.says(3, &["serve"], &["looks after production already"]);
    site.exits(1, &["gate", "serve"]);
    assert_eq!(site.json(0, &["gate", "status"])["phase"], "open");
    site.down();
    // What a killed one leaves behind is in nobody's way.
    site.up();

    let taken = Server::start(|_| (200, vec![]));
    let other = Site::new();
    other.edit(other.url.trim_start_matches("http://"), &taken.address.to_string());
    other.says(1, &["up"], &[&taken.address.to_string(), "in use"]);
}

#[test]
fn an_edited_journal_is_noticed() {
    let site = packed();
    site.ok(DEPLOY);
    let store: PathBuf = site.state.join("store.sqlite");
    site::sqlite3(
        &store,
        "UPDATE journal SET event = replace(event, '1.0.0', '1.0.1') WHERE seq = 4;
                           UPDATE journal SET at = at + 1 WHERE seq = 6;",
    );
    site.says(1, &["log"], &["the journal of r1 was edited"]);
}

#[test]
fn a_runner_that_was_killed_is_taken_up_by_the_duties() {
    let site = packed();
    site.edit("watch = \"0s\"", "watch = \"2s\"");
    let mut follower =
        site.command(DEPLOY).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let owner = site.state.join("release.lock.owner");
    let pid = || {
        let owner: serde_json::Value = serde_json::from_slice(&fs::read(&owner).ok()?).ok()?;
        owner["pid"].as_u64()
    };
    // Before its first entry nothing has begun, and nobody goes on with that.
    let began = || said(&site.run(&["log", "--json"])).contains("\"started\"");
    assert!(wait_until(PATIENCE_MS, || pid().is_some() && began()), "no runner");
    let _ = Command::new("kill").args(["-KILL", &pid().unwrap().to_string()]).status();
    follower.wait().unwrap();
    let over = wait_until(PATIENCE_MS, || !site.json(0, &["history"])[0]["outcome"].is_null());
    assert!(over, "{}", site.up_log());
    assert!(site.up_log().contains("taking up r1"), "{}", site.up_log());
    site.ok(&["verify"]);
}
