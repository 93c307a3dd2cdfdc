//! What only a server has: accounts, sessions, storage engines, definers.

use std::sync::Arc;
use std::time::Duration;

use entracte_db::{DbError, PointWay, Secret};
use entracte_testbed::mariadb::Mariadb;
use mysql::prelude::Queryable;

use crate::fixture::{Fixture, chain, quiet, run};

const LONG: Duration = Duration::from_secs(60);

/// Entracte enters as root, the game with an account of its own.
fn with_game_account(server: &Arc<Mariadb>) -> (Fixture, Fixture) {
    let game = Fixture::mariadb(server.clone());
    let mut fixture = Fixture::mariadb(server.clone());
    let entracte_db::Settings::Mariadb(of_the_game) = game.settings.clone() else { unreachable!() };
    let settings = fixture.mariadb_settings_mut();
    settings.user = "root".to_owned();
    settings.password = Secret::new("");
    settings.database = of_the_game.database;
    settings.data_dir = Some(server.data_dir().to_owned());
    settings.game_users = vec![format!("{}@localhost", of_the_game.user)];
    (fixture, game)
}

fn settings_of(fixture: &Fixture) -> &entracte_db::MariadbSettings {
    match &fixture.settings {
        entracte_db::Settings::Mariadb(settings) => settings,
        other => panic!("a MariaDB test on {other:?}"),
    }
}

#[test]
fn the_games_accounts_are_locked_and_their_sessions_ended() {
    let (fixture, game) = with_game_account(&crate::fixture::shared_server());
    let mut database = fixture.seeded();
    let mut session = game.as_the_game();
    session.run("SELECT 1");
    let proof = database.fence(LONG, &mut |_| {}).unwrap();
    assert_eq!((proof.locked.len(), proof.sessions_ended), (1, 1), "{proof:?}");
    let crate::fixture::Game::Mariadb(mut session) = session else { unreachable!() };
    assert!(session.query_drop("SELECT 1").is_err(), "the game's session goes on");
    assert!(entracte_db::open(&game.settings).is_err(), "the game comes in");
    // Another process, without the proof, lets the game in again.
    fixture.open().unfence(None).unwrap();
    game.as_the_game().run("SELECT 1");
}

#[test]
fn an_event_that_cannot_be_switched_off_is_named_with_what_to_add() {
    // The scheduler is the server's, and so the server is the test's own.
    let server = Arc::new(Mariadb::start_with(&["--event-scheduler=ON"]));
    let fixture = Fixture::mariadb(server);
    let mut database = fixture.open();
    let sql = "CREATE TABLE ticks (a INT);
        CREATE EVENT market ON SCHEDULE EVERY 1 SECOND DO INSERT INTO ticks VALUES (1);";
    run(&mut *database, &[sql]).unwrap();
    let intent = database.fence_intent().unwrap();
    assert!(intent.notes[0].contains("the event market of game_"), "{intent:?}");
    let refused = database.fence(Duration::from_secs(4), &mut |_| {});
    match refused {
        // Between two seconds nothing may be seen of it: then the note is what is said.
        Ok(proof) => assert!(proof.notes.iter().any(|note| note.contains("GRANT SUPER"))),
        Err(error) => {
            let said = chain(&error);
            assert!(said.contains("the event market") && said.contains("GRANT SUPER"), "{said}");
        }
    }
}

#[test]
fn who_keeps_the_tables_from_being_flushed_is_named() {
    let (fixture, game) = with_game_account(&crate::fixture::shared_server());
    let mut database = fixture.seeded();
    let mut session = game.as_the_game();
    session.run("START TRANSACTION");
    session.run("UPDATE players SET gold = 5 WHERE id = 1");
    // As long as the server lets a statement of ours wait.
    let wait = fixture.path().join("point");
    let point = database.take_point(&wait, &mut quiet).unwrap();
    let note = point.notes.iter().find(|note| note.contains("could not be copied"));
    let note = note.unwrap_or_else(|| panic!("{:?}", point.notes));
    assert!(note.contains(&settings_of(&game).user), "{note}");
}

#[test]
fn a_transaction_that_never_ends_is_undone_at_the_deadline() {
    let (fixture, game) = with_game_account(&crate::fixture::shared_server());
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let mut session = game.as_the_game();
    session.run("START TRANSACTION");
    session.run("DELETE FROM items");
    let mut said = Vec::new();
    let proof =
        database.fence(Duration::from_secs(1), &mut |line| said.push(line.to_owned())).unwrap();
    assert!(said[0].contains("a transaction open since"), "{said:?}");
    assert_eq!(proof.sessions_ended, 1);
    assert_eq!(database.sums().unwrap(), sums);
    database.unfence(Some(&proof)).unwrap();
}

#[test]
fn a_mistyped_account_is_told_of() {
    let (mut fixture, _game) = with_game_account(&crate::fixture::shared_server());
    fixture.mariadb_settings_mut().game_users.push("nobody@nowhere".to_owned());
    let error = fixture.open().fence(LONG, &mut |_| {}).unwrap_err();
    assert!(chain(&error).contains("nobody@nowhere"), "{error}");
    fixture.open().unfence(None).unwrap();
}

#[test]
fn events_do_not_fire_while_the_fence_stands() {
    let server = Arc::new(Mariadb::start_with(&["--event-scheduler=ON"]));
    let (fixture, _game) = with_game_account(&server);
    let mut database = fixture.open();
    run(
        &mut *database,
        &["CREATE TABLE t (a INT);
        CREATE EVENT tick ON SCHEDULE EVERY 1 HOUR DO INSERT INTO t VALUES (1);"],
    )
    .unwrap();
    let scheduler = || server.root().query_first::<String, _>("SELECT @@event_scheduler").unwrap();
    let intent = database.fence_intent().unwrap();
    assert!(intent.event_scheduler_off);
    let proof = database.fence(LONG, &mut |_| {}).unwrap();
    assert_eq!((proof.event_scheduler_off, scheduler().as_deref()), (true, Some("OFF")));
    // A process that knows only what was intended puts it back.
    fixture.open().unfence(Some(&intent)).unwrap();
    assert_eq!(scheduler().as_deref(), Some("ON"));
}

#[test]
fn orphans_are_ended_and_waited_for() {
    let fixture = Fixture::mariadb_user();
    let mut database = fixture.open();
    let crate::fixture::Game::Mariadb(mut session) = fixture.as_the_game() else { unreachable!() };
    let id = u64::from(session.connection_id());
    let sleeper = std::thread::spawn(move || session.query_drop("DO SLEEP(100000)"));
    database.end_orphans(&[id, 999_999_999], LONG).unwrap();
    assert!(sleeper.join().unwrap().is_err());
    // The number of somebody else is left alone.
    let mut root = fixture.server.as_ref().unwrap().root();
    database.end_orphans(&[u64::from(root.connection_id())], LONG).unwrap();
    root.query_drop("SELECT 1").unwrap();
}

#[test]
fn tables_of_every_kind_come_back() {
    for mut fixture in [Fixture::mariadb_admin(), Fixture::mariadb_user()] {
        let mut database = fixture.open();
        run(&mut *database, &["
            CREATE TABLE isam (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=MyISAM;
            CREATE TABLE aria (id INT PRIMARY KEY) ENGINE=Aria;
            CREATE TABLE mem (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=MEMORY;
            CREATE TABLE parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3;
            CREATE TABLE words (id INT PRIMARY KEY, t TEXT, FULLTEXT (t));
            CREATE TABLE past (id INT PRIMARY KEY, x INT) WITH SYSTEM VERSIONING;
            CREATE TABLE hidden (a INT, b INT INVISIBLE DEFAULT 3);
            INSERT INTO isam (t) VALUES ('a'), ('b'), ('c'); DELETE FROM isam WHERE id = 3;
            INSERT INTO mem VALUES (1), (9); INSERT INTO parts VALUES (1), (2), (3), (4);
            INSERT INTO words VALUES (1, 'the tavern'); INSERT INTO past VALUES (1, 1), (2, 2);
            UPDATE past SET x = 5; DELETE FROM past WHERE id = 2;
            INSERT INTO hidden (a, b) VALUES (1, 2);
        "]).unwrap();
        let facts = database.facts().unwrap();
        assert!(facts.notes.iter().any(|note| note.contains("isam (MyISAM)")), "{:?}", facts.notes);
        let sums = database.sums().unwrap();
        assert_eq!(sums.tables["past"].rows, 4);
        let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
        match (&point.way, &settings_of(&fixture).data_dir) {
            // What is no plain InnoDB file lies in a dump beside those that are.
            (PointWay::MariadbFiles(about), Some(_)) => {
                assert_eq!(about.dumped, ["aria", "isam", "mem", "parts", "words"]);
                assert!(point.notes.iter().any(|note| note.contains("isam is kept by MyISAM")));
            }
            (PointWay::MariadbDump(_), None) => assert!(!point.notes.is_empty()),
            (way, _) => panic!("{way:?}: {:?}", point.notes),
        }
        run(
            &mut *database,
            &["DELETE FROM isam; DROP TABLE parts; UPDATE past SET x = 7;
            INSERT INTO mem VALUES (NULL); ALTER TABLE words ADD y INT; DELETE FROM hidden;"],
        )
        .unwrap();
        database.restore_point(&point, &mut quiet).unwrap();
        assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
        // Nor are the indexes for show.
        let found = "SELECT id FROM words WHERE MATCH (t) AGAINST ('tavern')";
        assert_eq!(database.query(found).unwrap(), [[Some("1".to_owned())]]);
        let past = "SELECT COUNT(*) FROM past FOR SYSTEM_TIME ALL WHERE id = 1";
        assert_eq!(database.query(past).unwrap(), [[Some("2".to_owned())]]);
        fixture.mariadb_settings_mut().data_dir = None;
    }
}

#[test]
fn tables_that_were_altered_instantly_come_back() {
    let fixture = Fixture::mariadb_admin();
    let mut database = fixture.open();
    run(
        &mut *database,
        &["
        CREATE TABLE i (id INT AUTO_INCREMENT PRIMARY KEY, a INT);
        INSERT INTO i (a) VALUES (1), (2), (3);
        ALTER TABLE i ADD COLUMN b INT DEFAULT 5, ALGORITHM=INSTANT;
        ALTER TABLE i ADD COLUMN c VARCHAR(9) DEFAULT 'x' FIRST, ALGORITHM=INSTANT;
        ALTER TABLE i DROP COLUMN a, ALGORITHM=INSTANT;
        INSERT INTO i (b) VALUES (7);
    "],
    )
    .unwrap();
    let sums = database.sums().unwrap();
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::MariadbFiles(_)), "{:?}", point.notes);
    run(&mut *database, &["DELETE FROM i; ALTER TABLE i DROP COLUMN c;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

/// The server keeps a hidden column there, and takes a file with it for a table without it: the
/// import succeeds, and the table is corrupt.
#[test]
fn a_table_that_had_a_full_text_index_is_not_copied_as_a_file() {
    let fixture = Fixture::mariadb_admin();
    let mut database = fixture.open();
    run(
        &mut *database,
        &["
        CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, w TEXT, FULLTEXT (w));
        INSERT INTO t (a, w) VALUES (1, 'x'), (2, 'y'), (3, 'z');
        ALTER TABLE t DROP INDEX w;
    "],
    )
    .unwrap();
    let sums = database.sums().unwrap();
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::MariadbDump(_)), "{:?}", point.notes);
    run(&mut *database, &["DROP TABLE t;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn what_another_account_defined_is_refused_without_the_right_to_restore_it() {
    let fixture = Fixture::mariadb_user();
    let mut database = fixture.seeded();
    let entracte_db::Settings::Mariadb(settings) = &fixture.settings else { unreachable!() };
    let mut root = fixture.server.as_ref().unwrap().root();
    root.query_drop(format!("USE {}", settings.database)).unwrap();
    root.query_drop("CREATE VIEW of_root AS SELECT 1").unwrap();
    let error = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap_err();
    let said = chain(&error);
    assert!(said.contains("SET USER") && said.contains("view of_root of root@localhost"), "{said}");
    assert!(matches!(error, DbError::Privilege { .. }));
}

#[test]
fn programs_keep_their_mode_definer_character_set_and_rights() {
    let fixture = Fixture::mariadb_admin();
    let mut database = fixture.open();
    let entracte_db::Settings::Mariadb(settings) = &fixture.settings else { unreachable!() };
    let name = settings.database.clone();
    let mut root = fixture.server.as_ref().unwrap().root();
    for sql in [
        format!("USE {name}"),
        format!("ALTER DATABASE {name} COLLATE latin1_swedish_ci"),
        "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', character_set_client = latin1".to_owned(),
        format!("CREATE DEFINER={name}@localhost FUNCTION f() RETURNS TEXT RETURN 'a' || 'b'"),
        "CREATE PROCEDURE kept() SELECT 1".to_owned(),
        format!("GRANT EXECUTE ON PROCEDURE {name}.kept TO {name}@localhost"),
        format!("ALTER DATABASE {name} COLLATE utf8mb4_bin"),
        "CREATE TABLE t (a TEXT)".to_owned(),
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = f() || \"a\"".to_owned(),
    ] {
        // The last one uses a column in double quotes, which only this mode allows.
        root.query_drop(sql.replace("|| \"a\"", "|| NEW.\"a\"")).unwrap();
    }
    let shown = |root: &mut mysql::Conn| {
        let mut all = Vec::new();
        for sql in ["SHOW CREATE FUNCTION f", "SHOW CREATE PROCEDURE kept", "SHOW CREATE TRIGGER g"]
        {
            let row: mysql::Row = root.query_first(sql).unwrap().unwrap();
            let mut values = row.unwrap();
            values.truncate(6);
            all.push(format!("{values:?}"));
        }
        let grants: Vec<String> = root.query(format!("SHOW GRANTS FOR {name}@localhost")).unwrap();
        all.extend(grants);
        let sql = "SELECT @@collation_database";
        all.extend(root.query_first::<String, _>(sql).unwrap());
        all
    };
    let before = shown(&mut root);
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    run(&mut *database, &["DROP FUNCTION f; DROP TABLE t; INSERT INTO x SELECT 1;"]).unwrap_err();
    database.restore_point(&point, &mut quiet).unwrap();
    root.query_drop(format!("USE {name}")).unwrap();
    assert_eq!(shown(&mut root), before);
    run(&mut *database, &["INSERT INTO t VALUES ('c');"]).unwrap();
    assert_eq!(database.query("SELECT a FROM t").unwrap(), [[Some("abc".to_owned())]]);
}

#[test]
fn warnings_are_read_and_told_with_their_line() {
    let fixture = Fixture::mariadb_user();
    let script = "CREATE TABLE IF NOT EXISTS a (x INT);\nCREATE TABLE IF NOT EXISTS a (x INT);";
    let done = run(&mut *fixture.open(), &[script]).unwrap();
    let [warning] = done.scripts[0].warnings.as_slice() else { panic!("{done:?}") };
    assert!(warning.starts_with("line 2: Note 1050"), "{warning}");
}

#[test]
fn a_server_over_tcp_is_reached_and_a_wrong_password_is_not_shown() {
    let mut fixture = Fixture::mariadb_user();
    let settings = fixture.mariadb_settings_mut();
    settings.socket = None;
    settings.host = Some("127.0.0.1".to_owned());
    let mut database = fixture.seeded();
    let mut dump = Vec::new();
    database.dump(&mut dump, &mut quiet).unwrap();
    fixture.mariadb_settings_mut().password = "not the password".into();
    let error = entracte_db::open(&fixture.settings).err().unwrap();
    let said = format!("{} {error:?}", chain(&error));
    assert!(said.contains("1045") && !said.contains("not the password"), "{said}");
}

#[test]
fn equal_rows_have_equal_sums_where_a_generated_column_is_stored() {
    // The server's own CHECKSUM TABLE does not keep this promise for such tables.
    let fixture = Fixture::mariadb(crate::fixture::shared_server());
    let mut database = fixture.open();
    let mut session = fixture.as_the_game();
    session.run(
        "CREATE TABLE a (id INT PRIMARY KEY, xp INT NOT NULL, level INT AS (xp DIV 100) PERSISTENT)",
    );
    session.run("INSERT INTO a (id, xp) SELECT seq, seq * 37 FROM seq_1_to_500");
    session.run("CREATE TABLE b LIKE a");
    session.run("INSERT INTO b (id, xp) SELECT id, xp FROM a");
    let sums = database.sums().unwrap().tables;
    assert_eq!(sums["a"], sums["b"]);
    session.run("UPDATE b SET xp = xp + 100 WHERE id = 250");
    let sums = database.sums().unwrap().tables;
    assert_ne!(sums["a"].checksum, sums["b"].checksum);
}
