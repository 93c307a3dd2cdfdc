//! Every command as its user runs it, on a small site.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use entracte_testbed::process::wait_until;
use serde_json::{Value, json};
use site::{ENTRACTE, PATIENCE_MS, Request, Server, Site, listing, said, sqlite3};

#[test]
fn init_writes_a_file_that_loads_and_never_writes_over_one() {
    let dir = tempfile::tempdir().unwrap();
    let (dev, root, home) =
        (dir.path().join("tavern"), dir.path().join("www"), dir.path().join("home"));
    for folder in ["tavern/uploads", "tavern/cache", "www"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for file in ["index.php", "login.php", "register.php", "config.php"] {
        fs::write(dev.join(file), "<?php\n").unwrap();
        fs::write(root.join(file), "<?php\n").unwrap();
    }
    let run = |code: i32, args: &[&str]| {
        let output = Command::new(ENTRACTE)
            .args(args)
            .current_dir(&dev)
            .env("HOME", &home)
            .env_remove("ENTRACTE_CONFIG")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        said(&output)
    };
    assert!(run(2, &["status"]).contains("`entracte init` writes one"));
    let (root, state) = (root.display().to_string(), dir.path().join("state"));
    let state = state.display().to_string();
    run(0, &["init", "--root", &root, "--state", &state, "--upstream", "127.0.0.1:9081"]);
    let written = fs::read_to_string(dev.join("entracte.toml")).unwrap();
    for line in [
        "project = \"tavern\"",
        "persist = [\"config.php\", \"uploads\"]",
        "volatile = [\"cache\"]",
        "login = [\"POST /login.php\", \"/register.php*\"]",
        "session_cookies = [\"PHPSESSID\"]",
        "upstream = \"127.0.0.1:9081\"",
    ] {
        assert!(written.contains(line), "{line}:\n{written}");
    }
    let key = home.join(".config/entracte/tavern.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    let unknown = run(3, &["status"]);
    assert!(unknown.contains("does not know this production yet"), "{unknown}");
    assert!(run(0, &["init"]).contains("is there already"));
    let taken = run(0, &["init", "--production-version", "1.0"]);
    assert!(taken.contains("as it stands for 1.0.0: 3 files"), "{taken}");
    assert_eq!(fs::read_to_string(dev.join("entracte.toml")).unwrap(), written);
    assert!(run(0, &["status"]).contains("Production holds 1.0.0"));

    assert!(run(0, &["init", "--explain"]).contains("target.*.pace.drain\n    How long players"));
    let keys: Value = serde_json::from_str(&run(0, &["init", "--explain", "--json"])).unwrap();
    assert!(keys.as_array().unwrap().iter().any(|key| key["key"] == "target.*.root"));
}

#[test]
fn notes_are_written_listed_and_refused_where_they_make_no_sense() {
    let site = Site::with("languages = [\"en\", \"fr\"]", "");
    site.says(0, &["note", "--list"], &["nothing is noted"]);
    assert_eq!(site.json(0, &["note", "--list"]), json!([]));
    site.says(
        0,
        &[
            "note",
            "The market opens",
            "--fr",
            "Le marché ouvre",
            "--kind",
            "added",
            "--area",
            "market",
        ],
        &["the-market-opens.md"],
    );
    site.says(0, &["note", "Arrows cost less"], &["still to be written in: fr"]);
    site.says(3, &["note", "--list"], &["arrows-cost-less.md", "`## fr`"]);
    fs::remove_file(site.dev.join("changes/arrows-cost-less.md")).unwrap();
    let twice = site.json(0, &["note", "The market opens", "--in", "fr=Encore"]);
    assert!(twice["path"].as_str().unwrap().ends_with("the-market-opens-2.md"), "{twice}");
    let internal =
        ["note", "Sorted the includes", "--internal", "only moves files", "--kind", "internal"];
    site.ok(&internal);
    let list = site.json(0, &["note", "--list"]);
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!(list[2]["text"]["fr"], "Le marché ouvre");
    site.says(0, &["note", "--list"], &["internal", "sorted-the-includes", "The market opens"]);

    site.says(2, &["note", ""], &["what changed?"]);
    site.says(2, &["note", "x", "--in", "french"], &["--in de="]);
    site.says(2, &["note", "x", "--in", "../fr=x"], &["--in de="]);
    for slug in ["../../passwd", "A b", ""] {
        site.says(2, &["note", "x", "--slug", slug], &["small letters, digits and `-`"]);
    }
    site.exits(2, &["note"]);
    assert_eq!(fs::read_dir(site.dev.join("changes")).unwrap().count(), 3);
}

#[test]
fn status_finds_what_would_be_forgotten_and_pack_refuses_it() {
    let site = Site::with("languages = [\"en\", \"fr\"]", "");
    let nothing = site.says(0, &["status"], &["Nothing to release", "not under git"]);
    assert_eq!(nothing.matches("git").count(), 1, "said once:\n{nothing}");
    site.says(3, &["pack"], &["nothing to pack"]);

    site.git(&["init", "-q"]);
    site.git(&["add", "-A"]);
    site.git(&["commit", "-qm", "1.0"]);
    site.develop("1.1");
    fs::remove_file(site.dev.join("changes/market-11.md")).unwrap();
    fs::write(site.dev.join("source/config.inc.php"), "<?php $password = 'Tr0ub4dor&3xyz';\n")
        .unwrap();
    site.git(&["add", "-A", "source/config.inc.php", "SQL"]);
    site.git(&["commit", "-qm", "a script"]);
    let status = site.json(3, &["status"]);
    let codes = |status: &Value| -> Vec<String> {
        let findings = status["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
    };
    let found = codes(&status);
    for code in ["untracked", "uncommitted", "no-patch-notes"] {
        assert!(found.iter().any(|found| found == code), "{code}: {status}");
    }
    assert_eq!((&status["ready"], &status["under_git"]), (&json!(false), &json!(true)));
    site.says(
        3,
        &["status"],
        &["market.html is not tracked by git", "git add market.html", "SQL/11-gold.sql"],
    );
    let refused = site.json(3, &["pack", "1.1"]);
    assert!(refused["error"].as_str().unwrap().contains("are in the way"), "{refused}");
    assert!(!site.dev.join("dist/inn-1.1.0.tar.zst").exists());

    // The note, the commit, and the last one allowed by name.
    site.develop("1.1");
    fs::write(site.dev.join("source/config.inc.php"), "<?php\n").unwrap();
    site.git(&["add", "-A"]);
    site.git(&["commit", "-qm", "1.1"]);
    fs::write(site.dev.join("source/draft.txt"), "later\n").unwrap();
    site.says(3, &["pack", "1.1"], &["1 thing is in the way", "draft.txt is not tracked"]);
    site.says(3, &["pack", "1.1", "--allow", "untracked:other.txt"], &["draft.txt"]);
    let dry = site.json(0, &["pack", "1.1", "--dry-run", "--allow", "untracked:draft.txt"]);
    assert_eq!(dry["ready"], true);
    assert!(!site.dev.join("dist/inn-1.1.0.tar.zst").exists());
    fs::remove_file(site.dev.join("source/draft.txt")).unwrap();
    fs::write(site.dev.join("source/index.html"), "<h1>dirty</h1>\n").unwrap();
    site.says(3, &["pack", "1.1"], &["index.html is not as it was committed"]);
    let packed = site.json(0, &["pack", "1.1", "--allow-dirty"]);
    assert_eq!((&packed["version"], &packed["scripts"]), (&json!("1.1.0"), &json!(1)));
    site.says(3, &["pack", "0.9"], &["is not newer than production's 1.0.0"]);

    package_is_what_it_says(&site);
}

/// Plain `tar` opens it, plain `minisign` verifies it, and packing again gives the same content.
fn package_is_what_it_says(site: &Site) {
    let archive = site.dev.join("dist/inn-1.1.0.tar.zst");
    let list = Command::new("tar").args(["--zstd", "-tf"]).arg(&archive).output().unwrap();
    assert!(list.status.success(), "{}", said(&list));
    let list = said(&list);
    for name in [
        "documentation/PATCHNOTES.en.md",
        "documentation/PATCHNOTES.fr.md",
        "documentation/INSTALL.md",
        "documentation/CHANGES.md",
        "source/market.html",
        "SQL/11-gold.sql",
        "release.json.minisig",
    ] {
        assert!(list.contains(name), "{name}:\n{list}");
    }
    assert!(!list.contains("css/inn.css"), "unchanged files stay out:\n{list}");
    let public = entracte_package::keys::public(&site.at("sign.key")).unwrap().0;
    let record = site.dev.join("dist/v1.1.0/release.json");
    let verified = Command::new("minisign").args(["-V", "-P", &public, "-m"]).arg(&record).output();
    let verified = verified.expect("minisign: run `cargo xtask setup`");
    assert!(verified.status.success(), "{}", said(&verified));
    site.says(0, &["verify", "dist/inn-1.1.0.tar.zst"], &["inn 1.1.0 for production, sequence 1"]);

    let folders = || {
        let folder = site.dev.join("dist/v1.1.0");
        ["source", "SQL", "documentation"].map(|part| listing(&folder.join(part)))
    };
    let first = folders();
    site.ok(&["pack", "1.1", "--allow-dirty"]);
    assert_eq!(folders(), first);
}

#[test]
fn a_script_that_ran_is_neither_changed_nor_preceded() {
    let mut site = Site::new();
    site.up();
    site.develop("1.1");
    site.ok(&["deploy", "1.1", "--yes"]);
    site.develop("1.2");
    let ran = site.dev.join("SQL/11-gold.sql");
    let text = fs::read_to_string(&ran).unwrap();
    site.ok(&["status"]);
    fs::write(&ran, format!("{text}-- and more\n")).unwrap();
    site.says(3, &["status"], &["11-gold.sql ran in r1 and was changed since"]);
    site.says(3, &["pack", "1.2"], &["11-gold.sql ran in r1", "into a new script"]);
    fs::write(&ran, text.replace('\n', "\r\n")).unwrap();
    site.ok(&["status"]);
    fs::write(site.dev.join("SQL/9-early.sql"), "SELECT 1;\n").unwrap();
    site.says(3, &["pack", "1.2"], &["9-early.sql is new, and comes before 11-gold.sql"]);
    fs::rename(site.dev.join("SQL/9-early.sql"), site.dev.join("SQL/12.SQL")).unwrap();
    let status = site.json(3, &["status"]);
    assert_eq!(status["findings"][0]["code"], "script-name", "{status}");
}

#[test]
fn commits_that_no_note_mentions_are_listed_since_what_production_holds() {
    let mut site = Site::new();
    site.git(&["init", "-q"]);
    site.up();
    site.develop("1.1");
    site.git(&["add", "-A"]);
    site.git(&["commit", "-qm", "1.1"]);
    site.ok(&["deploy", "1.1", "--yes"]);
    for (file, subject) in [("a.html", "first"), ("b.html", "second")] {
        fs::write(site.dev.join("source").join(file), "x\n").unwrap();
        site.git(&["add", "-A"]);
        site.git(&["commit", "-qm", subject]);
        // A package that is never deployed changes nothing about what production holds.
        site.says(3, &["pack", "1.2", "--allow", "no-patch-notes"], &["--allow unmentioned"]);
        site.ok(&["pack", "1.2", "--allow", "no-patch-notes", "--allow", "unmentioned"]);
    }
    let status = site.says(3, &["status"], &["first is in no note", "second is in no note"]);
    assert!(!status.contains(" 1.1 is in no note"), "{status}");
}

#[test]
fn the_whole_way_of_a_version() {
    let received: Arc<Mutex<Vec<Request>>> = Arc::default();
    let inbox = Arc::clone(&received);
    let webhook = Server::start(move |request| {
        inbox.lock().unwrap().push(request.clone());
        (204, vec![])
    });
    let channel = format!("[announce.channels]\nteam = \"http://{}/hook\"\n", webhook.address);
    let mut site = Site::with("languages = [\"en\", \"fr\"]", &channel);

    site.says(3, &["doctor"], &["the gate does not run", "no backup yet"]);
    site.says(1, &["gate", "status"], &["the gate does not run", "entracte up"]);
    site.up();
    let doctor = site.json(0, &["doctor"]);
    assert!(doctor.as_array().unwrap().iter().all(|finding| finding["level"] != "bad"), "{doctor}");

    nothing_to_do(&site);
    backups(&site);

    site.develop("1.1");
    site.says(3, &["rehearse"], &["no package", "`entracte pack` makes one"]);
    site.ok(&["pack", "1.1"]);
    site.says(
        0,
        &["rehearse", "1.1"],
        &["no way to the live database", "Rehearsed 1.1.0", "2 statements", "exact", "on disk"],
    );
    site.says(
        0,
        &["plan"],
        &[
            "inn 1.0.0 → 1.1.0",
            "run 11-gold.sql",
            "Predicted closed time",
            "Rollback point: a copy of the database's file",
            "the way back",
            "Last resort",
            "Rehearsed on",
        ],
    );
    let plan = site.json(0, &["plan", "1.1"]);
    assert_eq!(plan["scripts"], json!(["11-gold.sql"]));
    assert_eq!(plan["point"]["way"], "copy");
    assert!(plan["point"]["ways"][0]["disk_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(plan.get("last_resort").is_some());

    let before = site.production();
    assert_eq!(site.json(0, &["deploy", "--dry-run"])["steps"], plan["steps"]);
    site.says(2, &["deploy"], &["nobody is there to be asked", "--yes"]);
    site.says(0, &["history"], &["no release yet"]);
    assert_eq!(site.production(), before);

    site.says(0, &["deploy", "1.1", "--detach", "--yes"], &["r1 is under way"]);
    site.says(0, &["log", "-f"], &["✓ migrate", "1.1.0 is live"]);
    site.says(0, &["log"], &["r1 inn 1.0.0 → 1.1.0", "1.1.0 is live"]);
    the_log_is_json_by_line(&site);
    site.says(0, &["history"], &["r1", "1.0.0 → 1.1.0", "released"]);
    let history = site.json(0, &["history"]);
    assert_eq!(history[0]["outcome"]["outcome"], "released");
    assert!(history[0]["closed_ms"].as_u64().is_some());
    assert!(site.dump().contains("v11"));
    site.says(0, &["status"], &["Production holds 1.1.0", "Nothing to release"]);

    announcements(&site, &received);
    hand_edits(&site);
}

fn nothing_to_do(site: &Site) {
    site.says(3, &["resume"], &["no release is unfinished"]);
    site.says(3, &["abort"], &["no release is under way", "entracte rollback"]);
    site.says(3, &["log"], &["there was no release yet"]);
    site.says(3, &["rollback"], &["nothing to go back to"]);
    site.says(3, &["deploy", "--yes"], &["nothing to pack"]);
    assert_eq!(site.json(0, &["history"]), json!([]));
}

/// A backup is listed by the ordinary restic, too; a restored tree is the tree that was live.
fn backups(site: &Site) {
    site.says(0, &["backup", "list"], &["no backup yet"]);
    site.says(3, &["backup", "check"], &["no backup yet"]);
    assert_eq!(site.json(0, &["backup", "list"]), json!([]));
    let taken = site.json(0, &["backup", "now"]);
    let id = |kind: &str| {
        let of_kind = |snapshot: &&Value| snapshot["kind"] == kind;
        taken.as_array().unwrap().iter().find(of_kind).unwrap()["short"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    site.says(0, &["backup", "list"], &[&id("source"), &id("database"), "manual"]);
    let restic = Command::new("restic")
        .args(["snapshots", "--json", "--no-cache", "--no-lock", "-r"])
        .arg(site.state.join("backup/trees"))
        .env("RESTIC_PASSWORD_FILE", site.state.join("backup.password"))
        .output()
        .expect("restic: run `cargo xtask setup`");
    assert!(restic.status.success(), "{}", said(&restic));
    assert!(said(&restic).contains(&id("source")), "{}", said(&restic));
    site.says(0, &["backup", "check"], &["the repository is whole", "2 tables, 3 rows"]);
    site.says(0, &["backup", "list"], &["restored"]);

    let tree = site.at("restored");
    site.ok(&["backup", "restore", &id("source"), &tree.display().to_string()]);
    assert_eq!(listing(&tree), listing(&site.root));
    let dump = site.at("restored.sqlite");
    site.ok(&["backup", "restore", &id("database"), &dump.display().to_string()]);
    assert_eq!(sqlite3(&dump, ".dump"), site.dump());
    site.says(3, &["backup", "restore", "ffff", "/nowhere"], &["is not exactly one backup"]);
    let onto = site.run(&["backup", "restore", &id("source"), &tree.display().to_string()]);
    assert_ne!(onto.status.code(), Some(0), "an existing folder is never written into");
}

fn the_log_is_json_by_line(site: &Site) {
    let output = site.run(&["log", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let entries: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries[0]["event"], "began");
    assert_eq!(entries.last().unwrap()["event"], "finished");
    let numbers = entries.iter().map(|entry| entry["seq"].as_u64().unwrap());
    assert!(numbers.eq(1..=entries.len() as u64));
    let all = String::from_utf8(site.run(&["log", "r1", "--quiet"]).stdout).unwrap();
    assert_eq!(all, "", "a release that went well has nothing to say to those who want quiet");
}

fn announcements(site: &Site, received: &Arc<Mutex<Vec<Request>>>) {
    // The notes leave from the outbox: within the release, or with the next round of the duties.
    let told = wait_until(PATIENCE_MS, || received.lock().unwrap().len() >= 2);
    let received = received.lock().unwrap();
    let kinds: Vec<String> = received
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            body["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(told, "only {kinds:?} came");
    assert_eq!(kinds, ["release.closing", "release.notes"]);
    let notes: Value = serde_json::from_str(&received[1].body).unwrap();
    let french = notes["data"]["texts"]["fr"]["plain"].as_str().unwrap();
    assert!(french.contains("Le marché de la 1.1 ouvre"), "{notes}");

    let page = site.get("/_entracte/news/fr/1.1.0.html");
    assert!(page.0 == 200 && page.1.contains("Le marché de la 1.1 ouvre"), "{page:?}");
    let feed = site.get("/_entracte/news/en/atom.xml");
    assert!(feed.0 == 200 && feed.1.contains("The market of 1.1 opens"), "{feed:?}");
    assert_eq!(site.get("/_entracte/news/en/").0, 200);
    let (status, text) = site.get("/_entracte/v1/status");
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &state["phase"]), (200, &json!("open")), "{state}");
    let widget = site.get("/_entracte/widget.js");
    assert!(widget.0 == 200 && widget.1.contains("/_entracte/"), "{}", widget.1);
}

fn hand_edits(site: &Site) {
    site.says(0, &["verify"], &["Production is exactly 1.1.0"]);
    fs::write(site.root.join("market.html"), "by hand\n").unwrap();
    fs::remove_file(site.root.join("version.txt")).unwrap();
    let wrong = site.json(3, &["verify"]);
    assert_eq!(wrong["changes"], json!({ "market.html": "modified", "version.txt": "deleted" }));
    site.says(3, &["verify", "--quiet"], &["market.html", "version.txt"]);
    let healed = site.json(0, &["verify", "--heal"]);
    assert_eq!((&healed["good"], healed["repaired"].as_array().unwrap().len()), (&json!(true), 2));
    fs::write(site.root.join("extra.txt"), "by hand\n").unwrap();
    site.says(3, &["verify", "--heal"], &["extra.txt", "never removed by itself"]);
    fs::remove_file(site.root.join("extra.txt")).unwrap();
    assert_eq!(site.ok(&["verify", "--quiet"]), "");
}

#[test]
fn output_is_for_people_programs_and_nobody() {
    let site = Site::new();
    let colours = |command: &mut Command| {
        String::from_utf8_lossy(&command.output().unwrap().stdout).contains('\u{1b}')
    };
    assert!(!colours(&mut site.command(&["status"])), "no terminal, no colours");
    assert!(colours(site.command(&["status"]).env("CLICOLOR_FORCE", "1")));
    assert!(!colours(site.command(&["status"]).env("NO_COLOR", "1")));
    assert_eq!(site.ok(&["status", "--quiet"]), "");
    assert_eq!(site.ok(&["history", "-q"]), "");
    assert!(site.exits(3, &["log", "-q"]).contains("there was no release yet"));
    assert_eq!(
        site.json(2, &["statsu"])["error"].as_str().unwrap().lines().next(),
        Some("unrecognized subcommand 'statsu'")
    );
    assert_eq!(site.json(3, &["log"])["exit"], 3);

    // A reader that goes away ends a command, and not with a panic.
    let mut child = site
        .command(&["init", "--explain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(16, child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(line, "project\n");
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
}

#[test]
fn completions_and_the_manual_are_what_their_readers_take() {
    let site = Site::new();
    let script = site.at("entracte.bash");
    fs::write(&script, site.run(&["completions", "bash"]).stdout).unwrap();
    let bash = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(bash.status.success(), "{}", said(&bash));
    for shell in ["zsh", "fish"] {
        assert!(site.ok(&["completions", shell]).contains("entracte"));
    }
    site.exits(2, &["completions"]);
    let page = site.at("entracte.1");
    fs::write(&page, site.run(&["completions", "--man"]).stdout).unwrap();
    let Ok(shown) = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(&page).output()
    else {
        return; // groff is no part of what tests need: it only shows the page.
    };
    assert!(
        shown.status.success() && shown.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for text in ["entracte deploy 1.1 --at quietest", "a person must decide"] {
        assert!(shown.contains(text), "{text}:\n{shown}");
    }
}
