//! What is known about a database.

use entracte_db::DbError;

use crate::fixture::{Fixture, run};

pub fn tables_and_version_are_known(fixture: &Fixture) {
    let facts = fixture.seeded().facts().unwrap();
    let kind = fixture.either("sqlite 3.", "mariadb ", "postgres ");
    assert!(facts.engine.starts_with(kind) && !facts.engine.ends_with(' '), "{}", facts.engine);
    assert!(facts.bytes > 0);
    let players = facts.tables.iter().find(|table| table.name == "players").unwrap();
    assert_eq!(players.engine, fixture.either("rowid", "InnoDB", "heap"));
    if let entracte_db::Settings::Mariadb(settings) = &fixture.settings {
        let lacks = facts.notes.iter().any(|note| note.contains("PROCESS"));
        assert_eq!(lacks, settings.user != "root", "{:?}", facts.notes);
    }
}

pub fn sums_see_every_kind_of_change(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let mut last = database.sums().unwrap();
    assert_eq!(last, database.sums().unwrap());
    let text = serde_json::to_string(&last).unwrap();
    assert_eq!(serde_json::from_str::<entracte_db::Sums>(&text).unwrap(), last);
    for (change, where_) in [
        ("UPDATE players SET gold = gold + 1 WHERE id = 0;", "table players"),
        ("DELETE FROM items WHERE owner = 7;", "table items"),
        (
            "INSERT INTO players (name) VALUES ('x'); DELETE FROM items WHERE owner > 7;
          DELETE FROM players WHERE name = 'x';",
            "next automatic value",
        ),
        (
            fixture.either(
                "DROP TRIGGER gifts;",
                "DROP TRIGGER gifts;",
                "DROP TRIGGER gifts ON players;",
            ),
            "schema",
        ),
        ("CREATE INDEX more ON players (gold, name);", "schema"),
        ("CREATE TABLE extra (a INT);", "table extra"),
        ("DROP VIEW IF EXISTS rich; DROP VIEW IF EXISTS arich;", "schema"),
    ] {
        run(&mut *database, &[change]).unwrap();
        let now = database.sums().unwrap();
        let said = last.differences(&now);
        assert!(said.iter().any(|line| line.contains(where_)), "{change}: {said:?}");
        last = now;
    }
}

pub fn questions_are_answered_and_changes_refused(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let rows =
        database.query("SELECT id, name, picture FROM players WHERE id <> 1 ORDER BY id").unwrap();
    assert_eq!(rows[0][..2], [Some("0".to_owned()), Some("zéro 🐉".to_owned())]);
    assert_eq!((rows.len(), &rows[1][2]), (2, &None));
    let sums = database.sums().unwrap();
    for sql in [
        "DELETE FROM players",
        "SELECT 1; DELETE FROM players",
        "",
        "SELECT 1; SELECT 2",
        "CREATE TABLE x (a INT)",
        "WITH c AS (SELECT 1) DELETE FROM players",
        fixture.either(
            "PRAGMA user_version = 9",
            "SELECT 1 INTO OUTFILE '/tmp/entracte-test-file'",
            "SELECT 1 INTO x",
        ),
        fixture.either("ATTACH 'x' AS y", "SELECT NEXTVAL(tickets)", "SELECT nextval('tickets')"),
        fixture.either("VACUUM", "CALL tidy(9)", "CALL tidy(9)"),
    ] {
        let refused = database.query(sql);
        assert!(refused.is_err(), "{sql}");
    }
    assert_eq!(database.sums().unwrap(), sums);
    let many = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 10001)
                SELECT x FROM c";
    let many = fixture.either(many, "SELECT seq FROM seq_1_to_10001", many);
    assert!(matches!(database.query(many), Err(DbError::Refused { .. })));
}
