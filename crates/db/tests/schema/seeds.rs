//! Rows of seed tables, and copies without the others.

use entracte_db::{Settings, compare, open};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::Postgres;
use mysql::prelude::Queryable;

use super::pairs::run;

const ITEMS: &str =
    "CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(40), price DECIMAL(9,2));";

/// A copy holds the seeds and no player; after what is proposed, the seeds are development's.
fn seeds_follow(production: &Settings, scratch: &Settings, development: &Settings, blob: &str) {
    run(
        production,
        &format!(
            "{ITEMS}
             CREATE TABLE players (id INT PRIMARY KEY, item INT REFERENCES items (id));
             CREATE TABLE entracte_history (id INT PRIMARY KEY);
             CREATE TABLE art (name VARCHAR(9) PRIMARY KEY, bytes {blob});
             INSERT INTO items VALUES (1, 'it''s; a \"sword\"', 5.50), (2, NULL, 1), (10, 'rum', 2);
             INSERT INTO players VALUES (1, 1), (2, 2);"
        ),
    );
    run(
        development,
        &format!(
            "{ITEMS}
             CREATE TABLE players (id INT PRIMARY KEY, item INT REFERENCES items (id));
             CREATE TABLE art (name VARCHAR(9) PRIMARY KEY, bytes {blob});
             INSERT INTO items VALUES (1, 'it''s; a \"sword\"', 6.50), (2, NULL, 1), (3, 'é\\n', NULL);"
        ),
    );
    let seeds = ["items".to_owned(), "art".to_owned(), "nowhere".to_owned()];
    compare::copy_definitions(production, scratch, &seeds).unwrap();
    let mut copy = open(scratch).unwrap();
    let count = |sql: &str, copy: &mut dyn entracte_db::Database| copy.query(sql).unwrap();
    assert_eq!(count("SELECT COUNT(*) FROM players", &mut *copy), [[Some("0".to_owned())]]);
    assert_eq!(count("SELECT COUNT(*) FROM items", &mut *copy), [[Some("3".to_owned())]]);
    let wanted = compare::snapshot(development).unwrap();
    let there = compare::snapshot(scratch).unwrap();
    assert!(wanted.differences(&there).is_empty(), "{:#?}", wanted.differences(&there));
    let rows = compare::seed_tables(development, &seeds).unwrap();
    assert_eq!(rows.len(), 2);
    let found = compare::seed_tables(scratch, &seeds).unwrap();
    let said = rows[0].differences(&found[0]);
    assert_eq!(said.len(), 3, "{said:#?}");
    let proposal = compare::propose(scratch, &wanted, &rows).unwrap();
    assert!(proposal.refused.is_empty(), "{:#?}", proposal.refused);
    assert!(proposal.steps[0].loses.is_some(), "a row goes: {:#?}", proposal.steps);
    let found = compare::seed_tables(scratch, &seeds).unwrap();
    assert!(rows[0].differences(&found[0]).is_empty());
}

#[test]
fn of_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| super::sqlite::database(dir.path(), name);
    seeds_follow(&of("p"), &of("s"), &of("d"), "BLOB DEFAULT x'00ff27'");
}

#[test]
fn of_mariadb() {
    let server = Mariadb::start();
    let of = |name: &str| {
        server.root().query_drop(format!("CREATE DATABASE `{name}`")).unwrap();
        Settings::Mariadb(entracte_db::MariadbSettings {
            socket: Some(server.socket().to_owned()),
            host: None,
            port: 0,
            user: "root".to_owned(),
            password: "".into(),
            database: name.to_owned(),
            data_dir: None,
            game_users: Vec::new(),
        })
    };
    seeds_follow(&of("p"), &of("s"), &of("d"), "BLOB");
}

#[test]
fn of_postgres() {
    let server = Postgres::start();
    let of = |name: &str| super::postgres::database(&server, name);
    seeds_follow(&of("p"), &of("s"), &of("d"), "BYTEA");
}
