//! What only a file has: journals, handles that stay open, checks that are off.

use entracte_db::{DbError, Settings, SqliteSettings, open};

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
