//! What needs the development machine and production at once, over a real sshd: forgotten SQL, what
//! was changed in production by hand, scripts that are declared as run. Needs openssh-server and
//! openssh-client.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use entracte_testbed::postgres::Postgres;
use small::{Small, said};

/// Production is 1.0 with the script of 1.1 waiting; development's database is 1.1 and `more`.
fn developed(more: &str) -> Small {
    let small = Small::start_far("1.1", &[]);
    let path = small.dev.join("entracte.toml");
    let development = "\n[development]\nseed_tables = [\"songs\"]\n\n[development.database]\n\
                       engine = \"sqlite\"\npath = \"../development.sqlite\"\n";
    fs::write(&path, fs::read_to_string(&path).unwrap() + development).unwrap();
    let database = small.dev.join("../development.sqlite");
    let schema = sqlite3(&small.dev.join("../game.sqlite"), ".schema");
    for sql in [&schema, &fs::read_to_string(small.dev.join("SQL/1.1-inn.sql")).unwrap(), more] {
        sqlite3(&database, sql);
    }
    small
}

fn sqlite3(database: &Path, sql: &str) -> String {
    let ran = Command::new("sqlite3").arg(database).arg(sql).output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn forgotten_sql_is_found_proposed_and_packed_over_one_connection_a_command() {
    let small = developed(
        "CREATE INDEX by_name ON players (name);
         INSERT INTO songs (title) VALUES ('The forgotten song');",
    );
    let before = small.sshd.as_ref().unwrap().logins();
    let found = small.exits(3, &["diff"]);
    assert_eq!(small.sshd.as_ref().unwrap().logins() - before, 1, "one connection");
    assert!(found.contains("by_name: forgotten") && found.contains("of songs"), "{found}");
    let value = small.json(&["diff"]);
    let length = |key: &str| value[key].as_array().unwrap().len();
    assert_eq!((length("objects"), length("rows"), length("scripts")), (1, 1, 1), "{value}");
    let status = small.exits(3, &["status"]);
    assert!(status.contains("by_name: forgotten") && status.contains("diff --sql"), "{status}");
    let refused = small.exits(3, &["pack", "1.1"]);
    assert!(refused.contains("by_name: forgotten"), "{refused}");

    let proposed = small.run(&["diff", "--sql"]);
    assert_eq!(proposed.status.code(), Some(0), "{}", said(&proposed));
    fs::write(small.dev.join("SQL/1.1.1-forgotten.sql"), &proposed.stdout).unwrap();
    let nothing = small.ok(&["diff"]);
    assert!(nothing.contains("Nothing is forgotten"), "{nothing}");
    small.ok(&["pack", "1.1"]);
    small.ok(&["deploy", "1.1", "--yes"]);
    let rows = sqlite3(&small.dev.join("../game.sqlite"), "SELECT title FROM songs WHERE id = 3");
    assert_eq!(rows, "The forgotten song\n");
}

#[test]
fn forgotten_sql_of_a_postgresql_server_is_found_from_the_other_machine() {
    let small = Small::start_far("1.1", &[]);
    let postgres = Postgres::start();
    let tables = "CREATE TABLE players (id SERIAL PRIMARY KEY, name TEXT NOT NULL);
                  CREATE TABLE songs (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
                  INSERT INTO songs VALUES (1, 'The lantern');";
    let script = "CREATE TABLE guilds (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL);\n";
    let forgotten = "ALTER TABLE players ADD COLUMN title VARCHAR(40) DEFAULT 'a, b';
                     CREATE INDEX by_name ON players (name);
                     INSERT INTO songs VALUES (2, 'It is ''late''; go');";
    for (name, sql) in [("inn", [tables, "", ""]), ("inn_dev", [tables, script, forgotten])] {
        postgres.create_database(name, name, "x", "CREATEDB");
        postgres.root(name).batch_execute(&sql.concat()).unwrap();
    }
    fs::write(small.dev.join("SQL/1.1-inn.sql"), script).unwrap();
    let server = |database: &str| {
        format!(
            "engine = \"postgres\"\nsocket = {:?}\nport = {}\nuser = \"postgres\"\n\
             database = {database:?}\n",
            postgres.socket_dir(),
            postgres.port()
        )
    };
    let path = small.dev.join("entracte.toml");
    let text = fs::read_to_string(&path).unwrap();
    let sqlite = format!("engine = \"sqlite\"\npath = {:?}\n", small.dev.join("../game.sqlite"));
    let sqlite = sqlite.replace("dev/../", "");
    assert!(text.contains(&sqlite), "{text}");
    let development = format!(
        "\n[development]\nseed_tables = [\"songs\"]\n\n[development.database]\n{}",
        server("inn_dev")
    );
    fs::write(&path, text.replacen(&sqlite, &server("inn"), 1) + &development).unwrap();

    // Production still works with the configuration that it was given before.
    let found = small.exits(3, &["diff"]);
    assert!(found.contains("another configuration than this machine has"), "{found}");
    small.ok(&["bootstrap"]);
    let found = small.exits(3, &["diff"]);
    assert!(!found.contains("another configuration"), "{found}");
    for part in ["table players", "title", "by_name", "of songs"] {
        assert!(found.contains(part), "{part}:\n{found}");
    }
    let proposed = small.run(&["diff", "--sql"]);
    assert_eq!(proposed.status.code(), Some(0), "{}", said(&proposed));
    fs::write(small.dev.join("SQL/1.1.1-forgotten.sql"), &proposed.stdout).unwrap();
    let nothing = small.ok(&["diff"]);
    assert!(nothing.contains("Nothing is forgotten"), "{nothing}");
}

#[test]
fn a_key_that_only_releases_compares_and_declares_nothing() {
    let small = developed("CREATE INDEX by_name ON players (name);");
    let forced = format!(
        "restrict,command=\"{} agent --fixed --config {} --target production\" ",
        env!("CARGO_BIN_EXE_entracte"),
        small.state.join("entracte.toml").display()
    );
    small.sshd.as_ref().unwrap().authorize(Some(&forced));
    let refused = small.exits(3, &["diff"]);
    assert!(refused.contains("takes releases and no questions"), "{refused}");
    let status = small.ok(&["status"]);
    assert!(status.contains("the development database was not compared"), "{status}");
    let refused = small.exits(3, &["adopt"]);
    assert!(refused.contains("this agent shows no files"), "{refused}");
    let refused = small.exits(3, &["sql", "baseline", "1.1-inn.sql"]);
    assert!(refused.contains("this agent declares nothing"), "{refused}");
}

#[test]
fn scripts_are_declared_in_production_and_never_over_what_a_release_ran() {
    let small = Small::start_far("1.1", &[]);
    fs::write(small.dev.join("SQL/1.0-old.sql"), "CREATE TABLE players (id);\n").unwrap();
    let declared = small.json(&["sql", "baseline", "1.0-old.sql"]);
    assert_eq!(declared["in"], "production", "{declared}");
    let status = small.json(&["sql", "status"]);
    assert_eq!(status["scripts"][0]["production"]["declared"], true, "{status}");
    assert_eq!(status["scripts"][1]["production"]["state"], "pending", "{status}");
    small.ok(&["pack", "1.1"]);
    small.ok(&["deploy", "1.1", "--yes"]);
    let refused = small.exits(3, &["sql", "baseline", "1.1-inn.sql"]);
    assert!(refused.contains("1.1-inn.sql ran in r1"), "{refused}");
}

#[test]
fn what_was_changed_by_hand_is_brought_as_a_patch_and_adopted() {
    let small = Small::start_far("1.1", &[]);
    small.ok(&["deploy", "1.1", "--yes"]);
    let (root, source) = (&small.root, small.dev.join("source"));
    let clean = small.ok(&["adopt"]);
    assert!(clean.contains("nothing to adopt"), "{clean}");

    fs::write(root.join("index.html"), "<h1>The inn, mended at night</h1>\n").unwrap();
    fs::create_dir(root.join("new folder")).unwrap();
    fs::write(root.join("new folder/\u{e9}t\u{e9}.sh"), "#!/bin/sh\n").unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("new folder/\u{e9}t\u{e9}.sh"), executable).unwrap();
    fs::write(root.join("new folder/picture"), [0, 159, 146, 150]).unwrap();
    fs::remove_file(root.join("start.html")).unwrap();
    symlink("version.txt", root.join("start.html")).unwrap();
    fs::remove_file(root.join("art/lantern.svg")).unwrap();

    let before = small.sshd.as_ref().unwrap().logins();
    let patch = small.dev.join("hotfix.patch");
    let seen = small.json(&["adopt", "--out", &patch.to_string_lossy()]);
    assert_eq!(small.sshd.as_ref().unwrap().logins() - before, 1, "one connection");
    assert_eq!(seen["changes"]["index.html"], "modified", "{seen}");
    assert_eq!(seen["changes"]["art/lantern.svg"], "deleted", "{seen}");
    let applied = Command::new("git")
        .args(["apply", "-p1", "--directory=patched"])
        .arg(&patch)
        .current_dir(copy_of(&source).path())
        .output()
        .unwrap();
    assert!(applied.status.success(), "{}", said(&applied));

    fs::write(source.join("index.html"), "<h1>The inn, in development</h1>\n").unwrap();
    let refused = small.exits(3, &["adopt", "--apply"]);
    assert!(refused.contains("development changed 1 of these files too"), "{refused}");
    assert!(source.join("art/lantern.svg").exists(), "refused, and nothing was changed");
    fs::write(source.join("index.html"), "<h1>The inn</h1>\n").unwrap();
    let adopted = small.json(&["adopt", "--apply"]);
    assert_eq!(adopted["adopted"], true, "{adopted}");
    assert_same_tree(root, &source);
    let exact = small.ok(&["verify"]);
    assert!(exact.contains("Production is exactly 1.1.0"), "{exact}");
    assert_eq!(small.json(&["status"])["changes"], serde_json::json!({}));

    symlink("/etc/passwd", root.join("out")).unwrap();
    let refused = small.exits(1, &["adopt"]);
    assert!(refused.contains("out: links to"), "{refused}");
}

/// A folder with a copy of the tree in `patched`.
fn copy_of(source: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("patched");
    let done = Command::new("cp").arg("-a").arg(source).arg(to).status().unwrap();
    assert!(done.success());
    dir
}

fn assert_same_tree(root: &Path, source: &Path) {
    let differ = Command::new("diff")
        .args(["-r", "--no-dereference", "--exclude=settings.ini", "--exclude=cache"])
        .args([root, source])
        .output()
        .unwrap();
    assert!(differ.status.success(), "{}", said(&differ));
    let mode = |tree: &Path| {
        fs::metadata(tree.join("new folder/\u{e9}t\u{e9}.sh")).unwrap().permissions().mode()
    };
    assert_eq!(mode(root) & 0o777, mode(source) & 0o777);
}

/// The configuration stays; all that stood in production is gone, as on a machine that was just set up.
fn emptied(small: &Small) {
    for entry in fs::read_dir(&small.root).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        // A log that was folded in already is not there.
        let _ = fs::remove_file(small.state.join(name));
    }
    fs::remove_dir_all(small.dev.join("dist")).unwrap();
}

#[test]
fn a_machine_that_holds_nothing_gets_its_first_version() {
    let mut small = Small::start_far("1.1", &[]);
    small.reference.migrate("1.1");
    let refused = small.exits(3, &["pack", "1.2", "--full"]);
    assert!(refused.contains("production holds 1.0.0 already"), "{refused}");
    emptied(&small);
    let unknown = small.exits(3, &["status"]);
    assert!(unknown.contains("production is not known yet"), "{unknown}");
    small.ok(&["pack", "1.1", "--full"]);
    let plan = small.ok(&["plan", "1.1"]);
    assert!(plan.contains("nothing → 1.1.0"), "{plan}");
    let told = small.ok(&["deploy", "1.1", "--yes"]);
    assert!(told.contains("1.1.0 is live"), "{told}");
    small.assert_holds("1.1", "the first installation");
    // From here on as ever: the difference, and the way back.
    fs::write(small.dev.join("source/index.html"), "<h1>The inn, again</h1>\n").unwrap();
    small.ok(&["pack", "1.2", "--allow", "no-patch-notes"]);
    let told = small.ok(&["deploy", "1.2", "--dry-run"]);
    assert!(told.contains("1.1.0 → 1.2.0"), "{told}");
}
