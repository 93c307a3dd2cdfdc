//! What only a file has: journals, handles that stay open, checks that are off.

use std::fs;

use entracte_db::{DbError, Settings, SqliteSettings, open};

use crate::child;
use crate::fixture::{Fixture, Game, chain, quiet, run};

#[test]
fn a_handle_that_stayed_open_sees_the_restored_database() {
    for (before, after) in [("wal", "wal"), ("wal", "delete"), ("delete", "wal")] {
        let fixture = Fixture::sqlite();
        let mut database = fixture.seeded();
        let set = |mode: &str| format!("PRAGMA journal_mode = {mode}; PRAGMA page_size = 4096;");
        run(&mut *database, &[&set(before)]).unwrap();
        let sums = database.sums().unwrap();
        let mut game = fixture.as_the_game();
        // Only in the write-ahead log yet: a copy of the file alone would lack it.
        game.run("INSERT INTO notes VALUES ('late')");
        let with_late = database.sums().unwrap();
        assert_ne!(with_late, sums);
        let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
        drop(game);
        run(&mut *database, &[&set(after), "DROP TABLE notes; DELETE FROM items;"]).unwrap();
        let Game::Sqlite(game) = fixture.as_the_game() else { unreachable!() };
        assert!(game.prepare("SELECT line FROM notes").is_err());
        database.restore_point(&point, &mut quiet).unwrap_or_else(|error| {
            panic!("{before} to {after}: {}", chain(&error));
        });
        assert_eq!(with_late.differences(&database.sums().unwrap()), Vec::<String>::new());
        let sql = "SELECT count(*) FROM notes WHERE line = 'late'";
        let late: i64 = game.query_row(sql, [], |row| row.get(0)).unwrap();
        game.execute("INSERT INTO notes VALUES ('after')", []).unwrap();
        let rows = database.query("SELECT line FROM notes WHERE line = 'after'").unwrap();
        assert_eq!((late, rows.len()), (1, 1));
        let mode = |game: &rusqlite::Connection| -> String {
            game.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap()
        };
        // The write-ahead log is not left while the game has the file open.
        assert_eq!(mode(&game), if after == "wal" { after } else { before });
        drop(game);
        database.restore_point(&point, &mut quiet).unwrap();
        let Game::Sqlite(game) = fixture.as_the_game() else { unreachable!() };
        assert_eq!(mode(&game), before);
    }
}

/// Some thousand pages, some of which change between the copying and the window.
const BIG: &str = "
CREATE TABLE big (id INTEGER PRIMARY KEY, n INT, t TEXT);
CREATE INDEX big_n ON big (n);
WITH RECURSIVE seq (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM seq WHERE id < 30000)
INSERT INTO big SELECT id, id % 97, hex(zeroblob(150)) FROM seq;
";

fn play(game: &mut Game, round: u32) {
    game.run(&format!("UPDATE big SET n = n + 1 WHERE id % 997 = {round}"));
    game.run(&format!("DELETE FROM big WHERE id BETWEEN {0} AND {0} + 90", round * 300 + 1));
    game.run("INSERT INTO big (n, t) SELECT 5, 'new' || id FROM big LIMIT 50");
}

#[test]
fn a_copy_that_was_made_while_the_game_wrote_is_made_equal() {
    for mode in ["wal", "delete"] {
        let fixture = Fixture::sqlite();
        let mut database = fixture.seeded();
        let set = format!("PRAGMA journal_mode = {mode};");
        run(&mut *database, &[&set, BIG]).unwrap();
        let dir = fixture.path().join("point");
        assert!(child::killed_at(&fixture, "prepare", &dir, 0), "{mode}");
        std::thread::scope(|scope| {
            let mut game = fixture.as_the_game();
            let player = scope.spawn(move || (0..12).for_each(|round| play(&mut game, round)));
            let first = database.prepare_point(&dir, &mut quiet).unwrap();
            player.join().unwrap();
            assert!(first.is_some(), "{mode}");
        });
        let mut game = fixture.as_the_game();
        play(&mut game, 20);
        let again = database.prepare_point(&dir, &mut quiet).unwrap().unwrap();
        let whole = fs::metadata(dir.join("ahead/point.sqlite")).unwrap().len();
        assert!(again < whole / 2, "{mode}: {again} of {whole} were written again");
        play(&mut game, 21);
        // Killed before the comparing, and behind it.
        for at in [0, 1] {
            assert!(child::killed_at(&fixture, "take", &dir, at), "{mode}");
            assert_eq!(database.probe_point(&dir).unwrap(), None);
            play(&mut game, 22);
            database.prepare_point(&dir, &mut quiet).unwrap();
        }
        fs::write(dir.join("ahead/point.sqlite"), "whatever somebody left".repeat(9_999)).unwrap();
        let sums = database.sums().unwrap();
        let point = database.take_point(&dir, &mut quiet).unwrap();
        assert_eq!(point.notes, Vec::<String>::new());
        assert!(!dir.join("ahead").exists());
        let Settings::Sqlite(settings) = &fixture.settings else { unreachable!() };
        let log = settings.path.with_extension("sqlite-wal");
        assert!(fs::metadata(log).map_or(0, |about| about.len()) == 0, "{mode}");
        let same = fs::read(dir.join("point.sqlite")).unwrap() == fs::read(&settings.path).unwrap();
        assert!(same, "{mode}: the bytes differ");
        play(&mut game, 30);
        run(&mut *database, &["DROP TABLE big; DELETE FROM notes;"]).unwrap();
        database.restore_point(&point, &mut quiet).unwrap();
        assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new(), "{mode}");
        let left: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

#[test]
fn somebody_who_reads_an_old_state_costs_time_and_no_exactness() {
    let fixture = Fixture::sqlite();
    let mut database = fixture.seeded();
    run(&mut *database, &["PRAGMA journal_mode = wal;"]).unwrap();
    let dir = fixture.path().join("point");
    database.prepare_point(&dir, &mut quiet).unwrap();
    let mut reader = fixture.as_the_game();
    reader.run("BEGIN; SELECT count(*) FROM notes");
    fixture.as_the_game().run("INSERT INTO notes VALUES ('late')");
    let sums = database.sums().unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(point.notes[0].contains("reads an old state"), "{:?}", point.notes);
    drop(reader);
    run(&mut *database, &["DELETE FROM notes;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn taking_a_point_does_not_drop_the_locks_of_others_in_this_process() {
    let fixture = Fixture::sqlite();
    let mut database = fixture.seeded();
    let mut game = fixture.as_the_game();
    game.run("BEGIN IMMEDIATE; INSERT INTO notes VALUES ('open')");
    let dir = fixture.path().join("point");
    database.prepare_point(&dir, &mut quiet).unwrap();
    // Another process would get the lock if closing a handle had dropped it.
    assert!(!child::gets_the_write_lock(&fixture));
    game.run("COMMIT");
    assert!(child::gets_the_write_lock(&fixture));
}

#[test]
fn scripts_that_break_foreign_keys_are_undone_and_old_breaks_are_nobodys_fault() {
    let fixture = Fixture::sqlite();
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let error = run(&mut *database, &["INSERT INTO items VALUES (99, 'x');"]).unwrap_err();
    assert!(matches!(error, DbError::ForeignKeys { .. }), "{error:?}");
    assert!(chain(&error).contains("items points to no row of players"), "{error}");
    assert_eq!(database.sums().unwrap(), sums);
    // Statement by statement nothing is undone, but it is told all the same.
    let own = "BEGIN; INSERT INTO items VALUES (99, 'x'); COMMIT;";
    let error = run(&mut *database, &[own]).unwrap_err();
    assert!(matches!(error, DbError::ForeignKeys { .. }), "{error:?}");
    run(&mut *database, &["INSERT INTO notes VALUES ('fine');"]).unwrap();
    assert!(database.facts().unwrap().notes[0].contains("items"));
    // The rebuild of a table that others point to keeps their rows.
    run(
        &mut *database,
        &[
            "DELETE FROM items WHERE owner = 99;",
            "
        CREATE TABLE n (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, gold REAL, picture BLOB);
        INSERT INTO n SELECT id, name, gold, picture FROM players;
        DROP VIEW rich; DROP TABLE players; ALTER TABLE n RENAME TO players;",
        ],
    )
    .unwrap();
    assert_eq!(database.sums().unwrap().tables["items"].rows, 3);
}

#[test]
fn a_missing_or_foreign_file_is_refused_and_not_created() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing.sqlite");
    let settings = Settings::Sqlite(SqliteSettings { path: path.clone() });
    assert!(matches!(open(&settings).err().unwrap(), DbError::Unreachable { .. }));
    assert!(!path.exists());
    std::fs::write(&path, "this is no database, but long enough to be looked at as one".repeat(20))
        .unwrap();
    assert!(chain(&open(&settings).err().unwrap()).contains("not a database"));
}

#[test]
fn a_statement_that_ends_the_transaction_is_refused() {
    let fixture = Fixture::sqlite();
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let script = "INSERT INTO notes VALUES ('x');
                  INSERT OR ROLLBACK INTO players (id, name) VALUES (1, 'again');";
    let error = run(&mut *database, &[script]).unwrap_err();
    assert!(matches!(&error, DbError::Statement { line: 2, .. }), "{error:?}");
    assert_eq!(database.sums().unwrap(), sums);
}
