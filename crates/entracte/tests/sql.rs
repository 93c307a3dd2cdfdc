//! `entracte sql` as its user runs it, against real databases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use std::fs;

use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::Postgres;
use serde_json::{Value, json};
use site::{Site, sqlite3};

/// A site with a development database, and two scripts.
fn developing(database: &str) -> Site {
    let more = format!(
        "\n[development.database]\n{database}\n[development.placeholders]\nPREFIX = \"inn_\"\n"
    );
    let site = Site::with("", &more);
    write(&site, "9-guilds.sql", "CREATE TABLE %PREFIX%guilds (id INT, name VARCHAR(40));\n");
    write(&site, "10-fill.sql", "INSERT INTO %PREFIX%guilds VALUES (1, 'a;b'), (2, 'c');\n");
    site
}

fn on_sqlite() -> Site {
    let site = developing("engine = \"sqlite\"\npath = \"../dev.sqlite\"\n");
    sqlite3(&site.at("dev.sqlite"), "CREATE TABLE own (x INT);");
    site
}

fn write(site: &Site, name: &str, text: &str) {
    fs::write(site.dev.join("SQL").join(name), text).unwrap();
}

/// The states of each script in development, in order.
fn states<'a>(status: &'a Value, place: &str) -> Vec<(&'a str, &'a str)> {
    let scripts = status["scripts"].as_array().unwrap();
    let state = |script: &'a Value| {
        (script["script"].as_str().unwrap(), script[place]["state"].as_str().unwrap())
    };
    scripts.iter().map(state).collect()
}

/// Twice: the second time there is nothing to do.
fn runs_once(site: &Site) {
    let status = site.json(0, &["sql", "status"]);
    let waiting = [("9-guilds.sql", "pending"), ("10-fill.sql", "pending")];
    assert_eq!(states(&status, "development"), waiting);
    assert_eq!(states(&status, "production"), waiting);
    let ran = site.json(0, &["sql", "run"]);
    assert_eq!(ran["ran"][1]["name"], "10-fill.sql");
    assert_eq!(ran["ran"][1]["rows"], 2);
    site.says(0, &["sql", "run"], &["ran on the development database already"]);
    let status = site.json(0, &["sql", "status"]);
    assert_eq!(states(&status, "development"), [("9-guilds.sql", "ran"), ("10-fill.sql", "ran")]);
    assert_eq!(states(&status, "production"), waiting, "production was not touched");
}

#[test]
fn scripts_run_once_on_each_kind_of_development_database() {
    runs_once(&on_sqlite());
    let mariadb = Mariadb::start();
    mariadb.create_database("dev", "dev", "");
    runs_once(&developing(&format!(
        "engine = \"mariadb\"\nsocket = {:?}\nuser = \"dev\"\ndatabase = \"dev\"\n",
        mariadb.socket()
    )));
    let postgres = Postgres::start();
    postgres.root("postgres").batch_execute("CREATE DATABASE dev").unwrap();
    runs_once(&developing(&format!(
        "engine = \"postgres\"\nsocket = {:?}\nport = {}\nuser = \"postgres\"\ndatabase = \"dev\"\n",
        postgres.socket_dir(),
        postgres.port()
    )));
}

#[test]
fn a_script_that_fails_is_named_and_those_before_it_do_not_run_again() {
    let site = on_sqlite();
    write(&site, "11-bad.sql", "SELECT 1;\nINSERT INTO missing VALUES (1);\n");
    let said = site.exits(1, &["sql", "run"]);
    assert!(said.contains("11-bad.sql, line 2: statement 2 failed"), "{said}");
    assert!(said.contains("no such table: missing"), "{said}");
    write(&site, "11-bad.sql", "INSERT INTO inn_guilds VALUES (3, 'good now');\n");
    let ran = site.json(0, &["sql", "run"]);
    assert_eq!(ran["ran"].as_array().unwrap().len(), 1, "{ran}");
    assert_eq!(sqlite3(&site.at("dev.sqlite"), "SELECT count(*) FROM inn_guilds;"), "3\n");
}

#[test]
fn a_changed_script_is_refused_with_both_hashes_and_line_ends_are_not_a_change() {
    let site = on_sqlite();
    site.ok(&["sql", "run"]);
    let path = site.dev.join("SQL/9-guilds.sql");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    site.says(0, &["sql", "status"], &["only line ends or a BOM changed"]);
    site.ok(&["sql", "run"]);
    fs::write(&path, text.replace("40", "50")).unwrap();
    write(&site, "12-more.sql", "CREATE TABLE more (x INT);\n");
    let hash = |text: &str| entracte_db::normalised_hash(text.as_bytes()).short();
    let (then, now) = (hash(&text), hash(&text.replace("40", "50")));
    let words = ["9-guilds.sql", "CHANGED", "nothing was run", then.as_str(), now.as_str()];
    site.says(3, &["sql", "run"], &words);
    assert_eq!(
        sqlite3(&site.at("dev.sqlite"), "SELECT 1 FROM sqlite_schema WHERE name = 'more';"),
        ""
    );
    site.ok(&["sql", "baseline", "--development", "9-guilds.sql"]);
    site.says(0, &["sql", "run"], &["12-more.sql"]);
}

#[test]
fn production_runs_scripts_in_releases_only_and_takes_declarations() {
    let mut site = on_sqlite();
    site.says(2, &["sql", "run", "--target", "production"], &["development database only"]);
    site.says(3, &["sql", "baseline", "13-none.sql"], &["there is no script 13-none.sql"]);
    site.exits(2, &["sql", "baseline"]);
    let declared = site.json(0, &["sql", "baseline", "--up-to", "10-fill.sql"]);
    assert_eq!(declared, json!({"declared": ["9-guilds.sql", "10-fill.sql"], "in": "production"}));
    site.says(0, &["sql", "status"], &["declared as run"]);
    // The release passes them over, and runs what is new.
    site.edit("[development.database]\nengine = \"sqlite\"\npath = \"../dev.sqlite\"\n", "");
    site.up();
    site.develop("1.1");
    site.ok(&["deploy", "1.1", "--yes"]);
    let status = site.json(0, &["sql", "status"]);
    let ran = [("9-guilds.sql", "ran"), ("10-fill.sql", "ran"), ("11-gold.sql", "ran")];
    assert_eq!(states(&status, "production"), ran);
    assert_eq!(status["scripts"][2]["production"]["release"], "r1");
    let mirror = "SELECT release_id, version, script, statements, row_count FROM entracte_history;";
    assert_eq!(sqlite3(&site.database, mirror), "r1|1.1.0|11-gold.sql|2|3\n");
    assert!(!site.state.join("scripts").exists(), "unpacked scripts were left behind");
    // What a release ran needs no declaration, and a change of it is refused.
    site.says(3, &["sql", "baseline", "11-gold.sql"], &["ran in r1"]);
    write(&site, "11-gold.sql", "SELECT 1;\n");
    site.says(3, &["sql", "status"], &["CHANGED since then", "put it into a new script"]);
    fs::remove_file(site.dev.join("SQL/11-gold.sql")).unwrap();
    let status = site.json(0, &["sql", "status"]);
    assert_eq!(status["gone"], json!(["11-gold.sql"]));
}
