//! The exact rollback point.

use std::fs;

use entracte_db::{DbError, PointWay};

use crate::child;
use crate::fixture::{Fixture, quiet, run};

/// What a bad release does to the seeded database.
pub const DAMAGE_SQLITE: &str = "
DROP TRIGGER gifts;
INSERT INTO players (name, gold) VALUES ('new', 5);
UPDATE players SET gold = 99 WHERE id = 1;
DELETE FROM notes;
DROP VIEW rich;
CREATE VIEW rich AS SELECT id FROM players;
CREATE TABLE market (id INTEGER PRIMARY KEY AUTOINCREMENT, price REAL);
INSERT INTO market (price) VALUES (1);
ALTER TABLE notes ADD COLUMN author TEXT;
DROP TABLE items;
INSERT INTO search VALUES ('lost');
PRAGMA user_version = 4;
";

pub const DAMAGE_MARIADB: &str = "
DROP TRIGGER gifts;
INSERT INTO players (name, gold) VALUES ('new', 5);
UPDATE players SET gold = 99 WHERE id = 1;
DELETE FROM `odd-name $`;
CREATE OR REPLACE VIEW zrich AS SELECT name, gold FROM players;
CREATE TABLE market (id INT AUTO_INCREMENT PRIMARY KEY, price DOUBLE, player INT,
  FOREIGN KEY (player) REFERENCES players (id));
INSERT INTO market (price, player) VALUES (1, 7);
CREATE VIEW market_view AS SELECT * FROM market;
ALTER TABLE players DROP COLUMN picture, ADD COLUMN level INT NOT NULL DEFAULT 1 AFTER name;
DROP TABLE items;
DROP FUNCTION half;
CREATE FUNCTION half(x DOUBLE) RETURNS DOUBLE DETERMINISTIC RETURN x / 3;
DROP PROCEDURE tidy;
CREATE PROCEDURE extra() SELECT 1;
ALTER EVENT nightly COMMENT 'changed';
CREATE EVENT other ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1;
SELECT NEXTVAL(tickets), NEXTVAL(tickets), NEXTVAL(tickets), NEXTVAL(tickets), NEXTVAL(tickets),
  NEXTVAL(tickets);
CREATE SEQUENCE more;
";

pub const DAMAGE_POSTGRES: &str = r#"
DROP TRIGGER gifts ON players;
INSERT INTO players (name, gold) VALUES ('new', 5);
UPDATE players SET gold = 99 WHERE id = 1;
DELETE FROM "odd-name $$";
CREATE OR REPLACE VIEW zrich AS SELECT name, gold FROM players;
CREATE TABLE market (id serial PRIMARY KEY, price float, player int REFERENCES players (id));
INSERT INTO market (price, player) VALUES (1, 7);
CREATE VIEW market_view AS SELECT * FROM market;
ALTER TABLE players DROP COLUMN picture, ADD COLUMN more_level int NOT NULL DEFAULT 1;
DROP TABLE items;
DROP FUNCTION half CASCADE;
CREATE FUNCTION half(x double precision) RETURNS double precision LANGUAGE sql AS 'SELECT x / 3';
CREATE FUNCTION half(x int) RETURNS int LANGUAGE sql AS 'SELECT x / 3';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
DROP PROCEDURE tidy;
CREATE TYPE season AS ENUM ('spring');
CREATE TYPE pair AS (a int, b season);
CREATE FUNCTION of_pair(p pair) RETURNS season LANGUAGE sql AS 'SELECT p.b';
CREATE SCHEMA extra;
CREATE TABLE extra.t (a int);
GRANT CREATE ON SCHEMA public TO PUBLIC;
REVOKE ALL ON players FROM PUBLIC;
COMMENT ON SCHEMA public IS 'changed';
DROP SCHEMA archive CASCADE;
SELECT nextval('tickets'), nextval('tickets');
CREATE SEQUENCE more;
SELECT lo_from_bytea(0, '\x56');
REFRESH MATERIALIZED VIEW counts;
"#;

pub fn the_point_brings_everything_back(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let (sums, schema) = (database.sums().unwrap(), database.schema().unwrap());
    let dir = fixture.path().join("point");
    let mut said = 0;
    let point = database.take_point(&dir, &mut |_| said += 1).unwrap();
    assert!(said > 0 && point.bytes > 0, "{point:?}");
    match (&fixture.settings, &point.way) {
        (entracte_db::Settings::Sqlite(_), PointWay::SqliteCopy { .. }) => {}
        (entracte_db::Settings::Mariadb(settings), way) => assert_eq!(
            matches!(way, PointWay::MariadbFiles(_)),
            settings.data_dir.is_some(),
            "{:?}",
            point.notes
        ),
        (entracte_db::Settings::Postgres(_), way) => {
            let facts = database.facts().unwrap();
            let creates = !facts.notes.iter().any(|note| note.contains("lacks CREATEDB"));
            assert_eq!(matches!(way, PointWay::PostgresClone(_)), creates, "{:?}", point.notes);
        }
        (_, way) => panic!("{way:?}"),
    }
    assert_eq!(database.sums().unwrap(), sums, "taking the point changed something");
    assert_eq!(database.probe_point(&dir).unwrap().as_ref(), Some(&point));
    for attempt in 0..2 {
        run(&mut *database, &[fixture.either(DAMAGE_SQLITE, DAMAGE_MARIADB, DAMAGE_POSTGRES)])
            .unwrap();
        assert!(sums.differences(&database.sums().unwrap()).len() > 3);
        database.restore_point(&point, &mut quiet).unwrap();
        let after = database.sums().unwrap();
        assert_eq!(sums.differences(&after), Vec::<String>::new(), "attempt {attempt}");
        let differences = schema.differences(&database.schema().unwrap());
        assert!(differences.is_empty(), "{differences:?}");
    }
    // The next player gets the number after the one that was deleted.
    run(&mut *database, &["INSERT INTO players (name, gold) VALUES ('next', 50);"]).unwrap();
    let next = database.query("SELECT id FROM players WHERE name = 'next'").unwrap();
    assert_eq!(next, [[Some("41".to_owned())]]);
    let given = database.query("SELECT kind FROM items WHERE owner = 41").unwrap();
    assert_eq!(given, [[Some("sword".to_owned())]]);
    database.drop_point(&point).unwrap();
    assert!(!dir.exists());
    database.drop_point(&point).unwrap();
    assert_eq!(database.probe_point(&dir).unwrap(), None);
}

pub fn an_incomplete_point_is_none_and_is_taken_again(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let dir = fixture.path().join("point");
    assert!(child::killed_at(fixture, "take", &dir, 0));
    assert_eq!(database.probe_point(&dir).unwrap(), None);
    let point = database.take_point(&dir, &mut quiet).unwrap();
    // A complete one is not taken over.
    assert!(matches!(database.take_point(&dir, &mut quiet), Err(DbError::BadPoint { .. })));
    fs::remove_file(dir.join("point.json")).unwrap();
    assert_eq!(database.probe_point(&dir).unwrap(), None);
    let refused = database.restore_point(&point, &mut quiet);
    assert!(matches!(refused, Err(DbError::BadPoint { .. })), "{refused:?}");
    // Nor are somebody's files.
    fs::write(dir.join("mine.txt"), b"x").unwrap();
    assert!(matches!(database.take_point(&dir, &mut quiet), Err(DbError::BadPoint { .. })));
    assert!(dir.join("mine.txt").exists());
}

pub fn a_restore_that_was_killed_is_repeated(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let dir = fixture.path().join("point");
    let point = database.take_point(&dir, &mut quiet).unwrap();
    run(&mut *database, &[fixture.either(DAMAGE_SQLITE, DAMAGE_MARIADB, DAMAGE_POSTGRES)]).unwrap();
    // Each attempt dies a bit later than the one before, until one comes through.
    let mut kills = 0;
    while child::killed_at(fixture, "restore", &dir, kills) {
        kills += 1;
    }
    assert!(kills > 0);
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    assert!(child::killed_at(fixture, "restore", &dir, kills - 1));
    assert_eq!(database.probe_point(&dir).unwrap().as_ref(), Some(&point));
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

pub fn a_point_of_another_database_is_refused(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    let mut other = point.clone();
    other.database = "another".to_owned();
    let sums = database.sums().unwrap();
    let refused = database.restore_point(&other, &mut quiet);
    assert!(matches!(refused, Err(DbError::BadPoint { .. })), "{refused:?}");
    let file = point.dir.join("point.json");
    let newer = fs::read_to_string(&file).unwrap().replace("\"format\": 2", "\"format\": 9");
    fs::write(&file, newer).unwrap();
    let refused = database.restore_point(&point, &mut quiet).unwrap_err().to_string();
    assert!(refused.contains("format 2 at most") && refused.contains("format 9"), "{refused}");
    assert_eq!(database.sums().unwrap(), sums);
}

pub fn an_empty_database_has_a_point_too(fixture: &Fixture) {
    let mut database = fixture.open();
    let sums = database.sums().unwrap();
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    run(&mut *database, &["CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(database.sums().unwrap(), sums);
}
