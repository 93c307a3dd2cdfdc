//! Random pairs of schemas on SQLite.

use std::fmt::Write;
use std::path::Path;

use entracte_db::{Settings, SqliteSettings, compare, open};

use super::pairs::{Dice, all_bridged, make, old_becomes_new, run};

const SEEDS: u64 = 40;

pub fn database(dir: &Path, name: &str) -> Settings {
    let path = dir.join(name);
    std::fs::write(&path, b"").unwrap();
    Settings::Sqlite(SqliteSettings { path })
}

#[test]
fn every_pair_of_schemas_is_bridged() {
    let dir = tempfile::tempdir().unwrap();
    all_bridged(SEEDS, |seed| {
        let of = |name: &str, sql: &str| {
            let settings = database(dir.path(), name);
            make(&settings, sql);
            settings
        };
        let (old, new) = (schema(seed * 2 + 1), schema(seed * 2 + 2));
        let (a, trial, b) = (of("a", &old), of("trial", &old), of("b", &new));
        old_becomes_new(&a, &trial, &b)
    });
}

#[test]
fn rows_and_their_numbers_outlive_a_table_that_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (old, trial, new) =
        (database(dir.path(), "a"), database(dir.path(), "t"), database(dir.path(), "b"));
    let before =
        "CREATE TABLE players (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, rank REAL);
        INSERT INTO players VALUES (7, 'O''Neil; x', 0.1), (9, NULL, 1e300), (12, 'gone', 1);
        DELETE FROM players WHERE id = 12;
        CREATE TRIGGER rich AFTER INSERT ON players BEGIN DELETE FROM players; END;";
    run(&old, before);
    run(&trial, before);
    run(
        &new,
        "CREATE TABLE players (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT DEFAULT 'x',
            rank REAL CHECK (rank > 0), name TEXT);
         CREATE TRIGGER rich AFTER INSERT ON players BEGIN DELETE FROM players; END;",
    );
    let script = old_becomes_new(&old, &trial, &new).unwrap();
    let mut database = open(&old).unwrap();
    let rows = database
        .query("SELECT id, title, quote(rank), quote(name) FROM players ORDER BY id")
        .unwrap();
    let text = |row: &[&str]| row.iter().map(|cell| Some((*cell).to_owned())).collect::<Vec<_>>();
    assert_eq!(rows[0], text(&["7", "x", "0.1", "'O''Neil; x'"]), "{script}");
    assert_eq!(rows[1][2..], text(&["1.0e+300", "NULL"])[..]);
    let next = database.query("SELECT seq FROM sqlite_sequence WHERE name = 'players'").unwrap();
    assert_eq!(next, [text(&["12"])]);
}

#[test]
fn what_would_be_lost_is_marked_and_a_new_column_is_added_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let (trial, new) = (database(dir.path(), "t"), database(dir.path(), "b"));
    run(&trial, "CREATE TABLE a (x int);\nCREATE TABLE b (x int, y int);\nCREATE TABLE c(x int);");
    run(&new, "CREATE TABLE a (x int, y text DEFAULT 'a, b');\nCREATE TABLE b (x int);");
    let wanted = compare::snapshot(&new).unwrap();
    let steps = compare::propose(&trial, &wanted, &[]).unwrap().steps;
    let lost: Vec<_> = steps.iter().filter_map(|step| step.loses.as_deref()).collect();
    assert_eq!(lost, ["the table c with its rows", "of the table b: y"]);
    assert!(
        steps.iter().any(|step| step.sql == "ALTER TABLE \"a\" ADD COLUMN y text DEFAULT 'a, b';"),
        "{steps:#?}"
    );
}

fn schema(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut sql = format!("PRAGMA user_version = {};\n", dice.below(3));
    let mut tables = Vec::new();
    for name in ["t0", "t1", "\"order\"", "[a b]"] {
        if !dice.one_in(5) {
            sql += &table(&mut dice, name, &tables);
            tables.push(name);
        }
    }
    if dice.one_in(2) {
        let columns = dice.pick(&["title, body", "title"]);
        writeln!(sql, "CREATE VIRTUAL TABLE search USING fts5({columns});").unwrap();
    }
    for (at, name) in tables.iter().enumerate() {
        if dice.one_in(2) {
            let partial = dice.pick(&["", " WHERE id > 3"]);
            let what = dice.pick(&["id", "lower(id)", "id DESC"]);
            writeln!(sql, "CREATE INDEX i{at} ON {name} ({what}){partial};").unwrap();
        }
        if dice.one_in(2) {
            let when = dice.pick(&["AFTER INSERT", "BEFORE DELETE"]);
            let value = dice.pick(&["1", "';'"]);
            writeln!(
                sql,
                "CREATE TRIGGER r{at} {when} ON {name} BEGIN\n  SELECT {value};\n  SELECT CASE WHEN 1 THEN 2 END;\nEND;"
            )
            .unwrap();
        }
    }
    if let Some(first) = tables.first()
        && !dice.one_in(3)
    {
        let more = dice.pick(&["", ", 2 AS two"]);
        writeln!(sql, "CREATE VIEW v9 AS SELECT id{more} FROM {first};").unwrap();
        writeln!(sql, "CREATE VIEW v1 AS SELECT * FROM v9;").unwrap();
        if dice.one_in(2) {
            sql += "CREATE TRIGGER vt INSTEAD OF INSERT ON v9 BEGIN SELECT 1; END;\n";
        }
    }
    sql
}

fn table(dice: &mut Dice, name: &str, parents: &[&str]) -> String {
    const COLUMNS: [&str; 7] = [
        "int",
        "text NOT NULL DEFAULT 'a, (b'",
        "real CHECK (id > 0)",
        "blob",
        "int UNIQUE",
        "text DEFAULT (1 + 2)",
        "int COLLATE NOCASE",
    ];
    let without_rowid = dice.one_in(4);
    let key = if without_rowid { "text" } else { "INTEGER" };
    let counts = if !without_rowid && dice.one_in(2) { " AUTOINCREMENT" } else { "" };
    let mut items = vec![format!("id {key} PRIMARY KEY{counts}")];
    let start = dice.below(4);
    for at in 0..4 {
        if !dice.one_in(3) {
            let kind = COLUMNS[dice.below(COLUMNS.len())];
            items.push(format!("c{} {kind}", (start + at) % 4));
        }
    }
    if dice.one_in(3) {
        let stored = dice.pick(&["VIRTUAL", "STORED"]);
        items.push(format!("g int GENERATED ALWAYS AS (id || 'x') {stored}"));
    }
    if !parents.is_empty() && dice.one_in(2) {
        let parent = dice.pick(parents);
        items.push(format!("p int REFERENCES {parent} (id) ON DELETE CASCADE"));
    }
    if dice.one_in(3) {
        items.push("CONSTRAINT sane CHECK (id <> 'a;b')".to_owned());
    }
    let strict = !items.iter().any(|item| item.contains("NOCASE")) && dice.one_in(4);
    let options: Vec<&str> = [(without_rowid, "WITHOUT ROWID"), (strict, "STRICT")]
        .into_iter()
        .filter_map(|(there, word)| there.then_some(word))
        .collect();
    format!("CREATE TABLE {name} (\n  {} -- why\n) {};\n", items.join(",\n  "), options.join(", "))
}
