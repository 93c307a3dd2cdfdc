//! `entracte diff` as a user runs it, and what `status` and `pack` make of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod small;

use std::fs;
use std::path::Path;
use std::process::Command;

use small::Small;

/// A database as the `sqlite3` program makes it.
fn sqlite3(database: &Path, sql: &str) {
    let ran = Command::new("sqlite3").arg(database).arg(sql).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// Production is 1.0 with the script of 1.1 waiting; development is what `more` makes of 1.1.
fn site(more: &str) -> Small {
    let site = Small::start("1.1");
    let database = site.dev.join("../development.sqlite");
    let config = site.dev.join("entracte.toml");
    let text = fs::read_to_string(&config).unwrap();
    let development = "\n[development]\nseed_tables = [\"songs\"]\n\n[development.database]\n\
                       engine = \"sqlite\"\npath = \"../development.sqlite\"\n";
    fs::write(&config, text + development).unwrap();
    let production = site.dev.join("../game.sqlite");
    let made = Command::new("sqlite3").arg(production).arg(".schema").output().unwrap();
    assert!(made.status.success());
    sqlite3(&database, &String::from_utf8_lossy(&made.stdout));
    sqlite3(&database, &fs::read_to_string(site.dev.join("SQL/1.1-inn.sql")).unwrap());
    sqlite3(&database, more);
    site
}

#[test]
fn what_was_forgotten_is_found_proposed_and_then_packed() {
    let site = site("");
    let said = site.ok(&["diff"]);
    assert!(said.contains("Nothing is forgotten") && said.contains("1 seed table"), "{said}");
    let database = site.dev.join("../development.sqlite");
    sqlite3(
        &database,
        "ALTER TABLE players ADD COLUMN title TEXT DEFAULT 'a, b';
         CREATE INDEX by_name ON players (name);
         UPDATE songs SET title = 'The hen' WHERE id = 1;
         INSERT INTO songs (title) VALUES ('It is ''late''; go');",
    );

    let said = site.exits(3, &["diff"]);
    for text in [
        "table players",
        "+ title TEXT DEFAULT 'a, b'",
        "index players.by_name: forgotten",
        "row \"id\" = 1 of songs differs: \"title\": expected 'The hen'",
        "row \"id\" = 3 of songs is missing",
        "Not compared: ",
        "entracte diff --sql",
    ] {
        assert!(said.contains(text), "{text}:\n{said}");
    }
    let value = site.run(&["diff", "--json"]);
    assert_eq!(value.status.code(), Some(3));
    let value: serde_json::Value = serde_json::from_slice(&value.stdout).unwrap();
    let length = |key: &str| value[key].as_array().unwrap().len();
    assert_eq!((length("objects"), length("rows"), length("scripts")), (2, 2, 1), "{value}");
    let status = site.exits(3, &["status"]);
    assert!(status.contains("by_name: forgotten") && status.contains("diff --sql"), "{status}");
    let refused = site.exits(3, &["pack", "1.1"]);
    assert!(refused.contains("by_name: forgotten") && refused.contains("diff --sql"), "{refused}");

    let proposed = site.run(&["diff", "--sql"]);
    let sql = String::from_utf8_lossy(&proposed.stdout).into_owned();
    assert_eq!(proposed.status.code(), Some(0), "{sql}");
    assert!(sql.contains("ADD COLUMN title TEXT DEFAULT 'a, b';"), "{sql}");
    // A longer number than any that production has had: it runs behind the other script.
    fs::write(site.dev.join("SQL/1.1.1-forgotten.sql"), &sql).unwrap();
    let said = site.ok(&["diff"]);
    assert!(said.contains("Nothing is forgotten"), "{said}");
    site.ok(&["pack", "1.1"]);
}

#[test]
fn what_loses_something_is_commented_out_unless_it_is_allowed() {
    let site = site("DROP TABLE purchases; ALTER TABLE players RENAME COLUMN gold TO coins;");
    let careful = site.run(&["diff", "--sql"]);
    let sql = String::from_utf8_lossy(&careful.stdout).into_owned();
    assert_eq!(careful.status.code(), Some(3), "{sql}");
    assert!(sql.contains("-- WOULD LOSE the table purchases with its rows"), "{sql}");
    assert!(sql.contains("-- DROP TABLE \"purchases\";"), "{sql}");
    assert!(!sql.lines().any(|line| line.starts_with("DROP TABLE")), "{sql}");
    let bold = site.run(&["diff", "--sql", "--allow-drops"]);
    let sql = String::from_utf8_lossy(&bold.stdout).into_owned();
    assert_eq!(bold.status.code(), Some(0), "{sql}");
    assert!(sql.contains("-- LOSES of the table players: gold\n"), "{sql}");
    assert!(sql.contains("\nDROP TABLE \"purchases\";"), "{sql}");
}

#[test]
fn a_seed_table_that_nobody_has_is_a_mistake() {
    let site = site("");
    let config = site.dev.join("entracte.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"songs\"", "\"song\"")).unwrap();
    let said = site.exits(3, &["diff"]);
    assert!(said.contains("no table song on either side"), "{said}");
    assert!(said.contains("development.seed_tables"), "{said}");
}
