//! Executing the scripts of a release.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use entracte_db::{DbError, HISTORY_TABLE, HistoryEntry, Placeholders, Script, history};

use crate::fixture::{Fixture, Game, Log, chain, quiet, run, scripts};

pub fn statements_are_logged_before_and_after(fixture: &Fixture) {
    let mut database = fixture.open();
    let mut log = Log::default();
    let (mut steps, mut notes) = (Vec::new(), Vec::new());
    let texts = ["CREATE TABLE a (x INT);\r\nINSERT INTO a\r\n VALUES (1), (2);", "DELETE FROM a;"];
    let done = database
        .run_scripts(&scripts(&texts), &mut log, &AtomicBool::new(false), &mut |at| {
            steps.push((at.done, at.total));
            assert_eq!(at.unit, "bytes");
            notes.push(at.note);
        })
        .unwrap();
    assert_eq!(
        log.lines,
        [
            "intent 001.sql 1 CREATE TABLE a (x INT)",
            "done 001.sql 1 0 rows",
            "intent 001.sql 2 INSERT INTO a VALUES (1), (2)",
            "done 001.sql 2 2 rows",
            "intent 002.sql 1 DELETE FROM a",
            "done 002.sql 1 2 rows",
        ]
    );
    let total = texts.iter().map(|text| text.len() as u64).sum::<u64>();
    assert!(steps.is_sorted() && steps.iter().all(|(_, of)| *of == total), "{steps:?}");
    assert_eq!(steps.last(), Some(&(total, total)));
    assert!(notes.contains(&"001.sql, statement 2 of 2".to_owned()), "{notes:?}");
    assert_eq!(
        done.scripts.iter().map(|s| (s.statements, s.rows)).collect::<Vec<_>>(),
        [(2, 2), (1, 2)]
    );
    assert_eq!(done.one_transaction, !fixture.is_mariadb());
    assert_eq!(log.ids.len(), if fixture.is_sqlite() { 0 } else { 3 });
}

pub fn a_failing_statement_is_named_and_ends_the_scripts(fixture: &Fixture) {
    let mut database = fixture.open();
    let before = database.sums().unwrap();
    let mut log = Log::default();
    let texts = [
        "CREATE TABLE a (x INT);\n\nINSERT INTO missing\nVALUES (1);\nCREATE TABLE b (x INT);",
        "CREATE TABLE c (x INT);",
    ];
    let error = database
        .run_scripts(&scripts(&texts), &mut log, &AtomicBool::new(false), &mut quiet)
        .unwrap_err();
    let said = chain(&error);
    assert!(said.contains("001.sql, line 3: statement 2"), "{said}");
    assert!(said.contains("INSERT INTO missing VALUES (1)"), "{said}");
    assert!(said.contains(fixture.either("no such table", "1146", "42P01")), "{said}");
    assert_eq!(log.lines.last().unwrap(), "failed 001.sql 2");
    let after = database.sums().unwrap();
    if !fixture.is_mariadb() {
        assert_eq!(after, before, "one transaction: nothing stays");
    } else {
        assert_eq!(after.tables.keys().collect::<Vec<_>>(), ["a"]);
    }
}

pub fn a_script_that_cannot_be_read_stops_all_before_the_first(fixture: &Fixture) {
    let mut database = fixture.open();
    let mut log = Log::default();
    for bad in
        ["SELECT 'x", fixture.either(".read x.sql", "source x.sql", "\\i x.sql"), "SELECT '\0'"]
    {
        let texts = ["CREATE TABLE a (x INT);", bad];
        let error = database
            .run_scripts(&scripts(&texts), &mut log, &AtomicBool::new(false), &mut quiet)
            .unwrap_err();
        assert!(
            matches!(&error, DbError::Script { script, .. } if script == "002.sql"),
            "{error:?}"
        );
    }
    let elsewhere = fixture.either("ATTACH 'x.db' AS x;", "USE mysql;", "DROP DATABASE postgres;");
    let error = run(&mut *database, &["CREATE TABLE a (x INT);", elsewhere]).unwrap_err();
    assert!(matches!(error, DbError::Refused { .. }), "{error:?}");
    assert!(log.lines.is_empty() && database.sums().unwrap().tables.is_empty());
}

pub fn nothing_is_executed_that_could_not_be_logged(fixture: &Fixture) {
    let mut database = fixture.open();
    let mut log = Log { refuse: Some(2), ..Log::default() };
    let texts = ["CREATE TABLE a (x INT); CREATE TABLE b (x INT);"];
    let error = database
        .run_scripts(&scripts(&texts), &mut log, &AtomicBool::new(false), &mut quiet)
        .unwrap_err();
    assert!(chain(&error).contains("the disk is full"), "{error:?}");
    assert!(!database.sums().unwrap().tables.contains_key("b"));
}

pub fn a_long_statement_is_ended_when_asked(fixture: &Fixture) {
    let mut database = fixture.open();
    let forever = fixture.either(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c;",
        "INSERT INTO a SELECT SLEEP(100000);",
        "INSERT INTO a SELECT 1 FROM pg_sleep(100000);",
    );
    let stop = Arc::new(AtomicBool::new(false));
    // The flag is raised when the statement is about to run: it is ended, never waited for.
    let mut log = Log { stop_at: Some((2, stop.clone())), ..Log::default() };
    let text = format!("CREATE TABLE a (x INT); {forever} CREATE TABLE b (x INT);");
    let error = database.run_scripts(&scripts(&[&text]), &mut log, &stop, &mut quiet).unwrap_err();
    assert!(
        matches!(&error, DbError::Stopped { script, line: 1 } if script == "001.sql"),
        "{error:?}"
    );
    assert_eq!(log.lines.last().unwrap(), "failed 001.sql 2");
    assert!(!database.sums().unwrap().tables.contains_key("b"));
    // A flag that is up before the first statement executes nothing.
    let mut log = Log::default();
    let error = database.run_scripts(&scripts(&[&text]), &mut log, &stop, &mut quiet).unwrap_err();
    assert!(matches!(error, DbError::Stopped { .. }) && log.lines.is_empty());
}

pub fn an_open_transaction_is_refused(fixture: &Fixture) {
    let mut database = fixture.open();
    run(&mut *database, &["CREATE TABLE a (x INT);"]).unwrap();
    let error = run(&mut *database, &["BEGIN; INSERT INTO a VALUES (1);"]).unwrap_err();
    assert!(
        matches!(&error, DbError::OpenTransaction { script } if script == "001.sql"),
        "{error:?}"
    );
    assert_eq!(database.query("SELECT COUNT(*) FROM a").unwrap(), [[Some("0".to_owned())]]);
}

pub fn a_script_may_have_its_own_transaction(fixture: &Fixture) {
    let mut database = fixture.open();
    let own = "BEGIN; INSERT INTO a VALUES (1); COMMIT; BEGIN; INSERT INTO a VALUES (2); ROLLBACK;";
    let done = run(&mut *database, &["CREATE TABLE a (x INT);", own]).unwrap();
    assert!(!done.one_transaction);
    assert_eq!(database.query("SELECT x FROM a").unwrap(), [[Some("1".to_owned())]]);
}

pub fn what_one_script_sets_does_not_reach_the_next(fixture: &Fixture) {
    let mut database = fixture.open();
    let (first, second) = if fixture.is_sqlite() {
        (
            "PRAGMA case_sensitive_like = ON; CREATE TEMP TABLE t (x); CREATE TABLE a (x);",
            "INSERT INTO a SELECT 'A' LIKE 'a'; CREATE TEMP TABLE t (x);",
        )
    } else if fixture.is_postgres() {
        (
            "SET search_path = pg_catalog, public; SET x.y = 'z'; CREATE TABLE public.a (x int);
             CREATE TEMPORARY TABLE t (x INT); PREPARE p AS SELECT 1; SET LOCAL x.z = 'q';
             SET TIME ZONE 'Asia/Tokyo';",
            "INSERT INTO a SELECT (coalesce(current_setting('x.y', true), '') = ''
               AND current_setting('TimeZone') <> 'Asia/Tokyo')::int;
             CREATE TEMPORARY TABLE t (x INT); PREPARE p AS SELECT 1;",
        )
    } else {
        (
            "SET @x = 5, foreign_key_checks = 0, sql_mode = ''; CREATE TABLE a (x INT);
             CREATE TEMPORARY TABLE t (x INT); LOCK TABLES a WRITE;",
            "INSERT INTO a SELECT @x IS NULL AND @@foreign_key_checks AND @@sql_mode <> '';
             CREATE TEMPORARY TABLE t (x INT);",
        )
    };
    run(&mut *database, &[first, second]).unwrap();
    assert_eq!(database.query("SELECT x FROM a").unwrap(), [[Some("1".to_owned())]]);
}

pub fn a_script_is_read_from_its_file_and_placeholders_are_filled(fixture: &Fixture) {
    let mut database = fixture.open();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("010.sql");
    let text =
        "\u{feff}CREATE TABLE %PREFIX%a (x INT);\r\nINSERT INTO %PREFIX%a VALUES (7 % 4);\r\n";
    std::fs::write(&path, text).unwrap();
    let prefix = [("PREFIX".to_owned(), "game_".to_owned())];
    let prefix = Placeholders::new(prefix.into()).unwrap();
    let script = Script::file("010.sql", &path).with(&prefix);
    let stop = AtomicBool::new(false);
    database.run_scripts(&[script], &mut Log::default(), &stop, &mut quiet).unwrap();
    assert_eq!(database.query("SELECT x FROM game_a").unwrap(), [[Some("3".to_owned())]]);
    let missing = Script::file("020.sql", dir.path().join("020.sql"));
    let error = database.run_scripts(&[missing], &mut Log::default(), &stop, &mut quiet);
    assert!(matches!(&error, Err(DbError::Io { path, .. }) if path.ends_with("020.sql")));
}

pub fn the_mirror_of_the_journal_is_kept_and_is_no_part_of_the_game(fixture: &Fixture) {
    let mut database = fixture.open();
    let engine = fixture.settings.engine();
    run(&mut *database, &["CREATE TABLE a (x INT);"]).unwrap();
    let (sums, schema) = (database.sums().unwrap(), database.schema().unwrap());
    assert_eq!(history::read(&mut *database, engine).unwrap(), []);
    let entry = |script: &str, at_ms| HistoryEntry {
        release: "r7".to_owned(),
        version: "1.2.0".to_owned(),
        script: script.to_owned(),
        hash: "ab".repeat(32),
        raw_hash: "cd".repeat(32),
        statements: 3,
        rows: 40,
        duration_ms: 12,
        at_ms,
    };
    let entries = [entry("010-it's \\ a;b.sql", 1), entry("020-é.sql", 1_800_000_000_000)];
    history::add(&mut *database, engine, &entries[..1]).unwrap();
    history::add(&mut *database, engine, &entries[1..]).unwrap();
    assert_eq!(history::read(&mut *database, engine).unwrap(), entries);
    assert_eq!(database.sums().unwrap(), sums);
    assert_eq!(database.schema().unwrap(), schema);
    // It is in the database for all that: the point, too, brings it back as it was.
    let dir = tempfile::tempdir().unwrap();
    let point = database.take_point(&dir.path().join("p"), &mut quiet).unwrap();
    run(&mut *database, &[&format!("DROP TABLE {HISTORY_TABLE};")]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(history::read(&mut *database, engine).unwrap(), entries);
    database.drop_point(&point).unwrap();
}

/// The game holds the table in an open transaction.
fn holding(fixture: &Fixture) -> (Box<dyn entracte_db::Database>, Game) {
    let mut database = fixture.open();
    run(&mut *database, &["CREATE TABLE a (x INT);", "INSERT INTO a VALUES (1);"]).unwrap();
    let mut game = fixture.as_the_game();
    game.run("BEGIN");
    game.run("SELECT x FROM a");
    (database, game)
}

fn who_is_waited_for_is_said(fixture: &Fixture) {
    let (mut database, mut game) = holding(fixture);
    let mut heard = String::new();
    let alter = scripts(&["ALTER TABLE a ADD y INT;"]);
    database
        .run_scripts(&alter, &mut Log::default(), &AtomicBool::new(false), &mut |at| {
            if at.note.contains("waits for") && heard.is_empty() {
                heard = at.note;
                // Now that it was said, the game lets go, and the script goes on.
                game.run("COMMIT");
            }
        })
        .unwrap();
    assert!(heard.starts_with("001.sql, statement 1 of 1: waits for "), "{heard}");
    assert!(heard.contains("(number "), "{heard}");
}

fn who_held_the_lock_is_in_the_error(fixture: &Fixture) {
    let (mut database, mut game) = holding(fixture);
    let limit = fixture.either("", "SET lock_wait_timeout = 1;", "SET lock_timeout = '1s';");
    let error = run(&mut *database, &[&format!("{limit} ALTER TABLE a ADD y INT;")]).unwrap_err();
    let said = chain(&error);
    assert!(said.contains("; the lock was held by "), "{said}");
    assert!(said.contains("(number "), "{said}");
    game.run("ROLLBACK");
}

#[test]
fn locks_of_others_are_named_on_mariadb() {
    who_is_waited_for_is_said(&Fixture::mariadb_admin());
    who_held_the_lock_is_in_the_error(&Fixture::mariadb_admin());
}

#[test]
fn locks_of_others_are_named_on_postgres() {
    who_is_waited_for_is_said(&Fixture::postgres_user());
    who_held_the_lock_is_in_the_error(&Fixture::postgres_user());
}

/// A file that somebody writes into is not what was looked at before.
#[test]
fn a_script_that_is_changed_while_it_runs_is_noticed() {
    let fixture = Fixture::sqlite();
    let mut database = fixture.open();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("010.sql");
    let long = format!("CREATE TABLE c (x INT);\n{}", "INSERT INTO c VALUES (1);\n".repeat(20_000));
    std::fs::write(&path, &long).unwrap();
    let script = Script::file("010.sql", &path);
    let error = database
        .run_scripts(&[script], &mut Log::default(), &AtomicBool::new(false), &mut |at| {
            if at.note.contains("statement 1 of") {
                std::fs::write(&path, long.replace("(1)", "(2)")).unwrap();
            }
        })
        .unwrap_err();
    assert!(
        matches!(&error, DbError::Refused { what, .. } if what.contains("changed")),
        "{error:?}"
    );
    assert!(database.query("SELECT 1 FROM sqlite_schema WHERE name = 'c'").unwrap().is_empty());
}
