//! What only PostgreSQL has: its holes in the fence, and what no transaction takes.

use std::sync::Arc;
use std::time::Duration;

use entracte_db::{DbError, PointWay, Settings};
use entracte_testbed::postgres::Postgres;

use crate::fixture::{Fixture, Game, Log, chain, quiet, run, scripts, shared_postgres};

const LONG: Duration = Duration::from_secs(60);

/// Entracte enters as a superuser, the game with an account of its own.
fn with_game_account(server: &Arc<Postgres>) -> (Fixture, Fixture) {
    let game = Fixture::postgres(server.clone(), "");
    let mut fixture = Fixture::postgres(server.clone(), "");
    let Settings::Postgres(of_the_game) = game.settings.clone() else { unreachable!() };
    let settings = fixture.postgres_settings_mut();
    settings.user = "postgres".to_owned();
    settings.password = "".into();
    settings.database = of_the_game.database;
    settings.game_users = vec![of_the_game.user];
    (fixture, game)
}

#[test]
fn nologin_alone_would_leave_live_sessions_writing_so_they_are_ended() {
    let (fixture, game) = with_game_account(&shared_postgres());
    let mut database = fixture.open();
    game.as_the_game().run("CREATE TABLE t (a int)");
    let mut session = game.as_the_game();
    session.run("SET default_transaction_read_only = off");
    let proof = database.fence(LONG, &mut |_| {}).unwrap();
    assert_eq!((proof.locked.len(), proof.sessions_ended), (1, 1), "{proof:?}");
    let Game::Postgres(mut session) = session else { unreachable!() };
    assert!(session.batch_execute("INSERT INTO t VALUES (1)").is_err(), "the session goes on");
    assert!(entracte_db::open(&game.settings).is_err(), "the game comes in");
    // Another process, without the proof, lets the game in again.
    fixture.open().unfence(None).unwrap();
    game.as_the_game().run("SELECT 1");
}

#[test]
fn a_transaction_that_never_ends_is_undone_at_the_deadline() {
    let (fixture, game) = with_game_account(&shared_postgres());
    let mut database = fixture.open();
    game.as_the_game().run("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let sums = database.sums().unwrap();
    let mut session = game.as_the_game();
    session.run("BEGIN; DELETE FROM t");
    let mut said = Vec::new();
    let proof =
        database.fence(Duration::from_secs(1), &mut |line| said.push(line.to_owned())).unwrap();
    assert!(said[0].contains("a transaction open"), "{said:?}");
    assert_eq!(proof.sessions_ended, 1);
    assert_eq!(database.sums().unwrap(), sums);
    database.unfence(Some(&proof)).unwrap();
}

#[test]
fn a_writer_of_another_account_is_named_without_any_right_to_see_it() {
    let server = shared_postgres();
    let fixture = Fixture::postgres(server.clone(), "");
    let mut database = fixture.open();
    run(&mut *database, &["CREATE TABLE t (a int);"]).unwrap();
    let Settings::Postgres(settings) = &fixture.settings else { unreachable!() };
    let mut other = server.root(&settings.database);
    other.batch_execute("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    let error = database.fence(Duration::ZERO, &mut |_| {}).unwrap_err();
    let DbError::StillWriting { sessions, .. } = &error else { panic!("{error:?}") };
    assert_eq!(sessions[0].user, "postgres", "{error}");
}

#[test]
fn a_prepared_transaction_is_named() {
    let (fixture, game) = with_game_account(&shared_postgres());
    let mut database = fixture.open();
    let mut session = game.as_the_game();
    session.run("CREATE TABLE t (a int)");
    session.run("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'later'");
    drop(session);
    let error = database.fence(LONG, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("prepared transaction later"), "{error}");
    database.unfence(None).unwrap();
    let mut session = game.as_the_game();
    session.run("ROLLBACK PREPARED 'later'");
}

#[test]
fn a_clone_keeps_what_lies_outside_of_the_database() {
    let (fixture, game) = with_game_account(&shared_postgres());
    let mut database = fixture.seeded();
    let name = match &game.settings {
        Settings::Postgres(settings) => settings.database.clone(),
        _ => unreachable!(),
    };
    let mut root = shared_postgres().root("postgres");
    root.batch_execute(&format!(
        "ALTER DATABASE {name} SET search_path = \"$user\", public, archive;
         ALTER DATABASE {name} SET work_mem = '8MB';
         ALTER ROLE {name} IN DATABASE {name} SET statement_timeout = '5s';
         COMMENT ON DATABASE {name} IS 'it''s the game';
         ALTER DATABASE {name} CONNECTION LIMIT 40;
         REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;
         GRANT CONNECT ON DATABASE {name} TO pg_monitor"
    ))
    .unwrap();
    drop(root);
    let sums = database.sums().unwrap();
    let dir = fixture.path().join("point");
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::PostgresClone(_)), "{:?}", point.notes);
    run(&mut *database, &["DROP SCHEMA archive CASCADE;"]).unwrap();
    // Who idles in the database is ended: the two names cannot be exchanged under a session.
    let mut idle = game.as_the_game();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    let Game::Postgres(client) = &mut idle else { unreachable!() };
    assert!(client.batch_execute("SELECT 1").is_err());
    database.drop_point(&point).unwrap();
    let left = "SELECT datname FROM pg_database WHERE datname LIKE 'entracte%'";
    let left = database.query(left).unwrap();
    let PointWay::PostgresClone(about) = &point.way else { unreachable!() };
    let tag = about.clone.as_deref().unwrap().rsplit('_').next().unwrap();
    assert!(!left.iter().any(|row| row[0].as_deref().unwrap().ends_with(tag)), "{left:?}");
}

#[test]
fn a_session_in_the_database_makes_the_point_a_dump() {
    let fixture = Fixture::postgres_creator();
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let _idle = fixture.as_the_game();
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::PostgresDump(_)));
    assert!(point.notes[0].contains("somebody is in the database"), "{:?}", point.notes);
    run(&mut *database, &[crate::point::DAMAGE_POSTGRES]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn rights_on_routines_of_one_name_stay_with_each() {
    for fixture in [Fixture::postgres_creator(), Fixture::postgres_user()] {
        let mut database = fixture.open();
        run(
            &mut *database,
            &["CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION f(text, VARIADIC int[]) RETURNS int LANGUAGE sql AS 'SELECT 2';
            CREATE PROCEDURE f(bigint) LANGUAGE sql AS 'SELECT 3';
            REVOKE ALL ON FUNCTION f(int) FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION f(int) TO pg_monitor;
            GRANT EXECUTE ON FUNCTION f(text, int[]) TO pg_read_all_stats WITH GRANT OPTION;
            REVOKE ALL ON PROCEDURE f(bigint) FROM PUBLIC;"],
        )
        .unwrap();
        let rights = "SELECT oid::regprocedure::text, proacl::text FROM pg_proc
                      WHERE proname = 'f' ORDER BY 1";
        let before = database.query(rights).unwrap();
        assert!(before.len() == 3 && before.iter().all(|row| row[1].is_some()), "{before:?}");
        let sums = database.sums().unwrap();
        let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
        // Only who may do what is exchanged between two of the name.
        run(
            &mut *database,
            &["GRANT EXECUTE ON FUNCTION f(int) TO PUBLIC;
            REVOKE EXECUTE ON FUNCTION f(text, int[]) FROM PUBLIC;"],
        )
        .unwrap();
        assert_ne!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
        run(&mut *database, &["DROP FUNCTION f(int);"]).unwrap();
        database.restore_point(&point, &mut quiet).unwrap();
        assert_eq!(database.query(rights).unwrap(), before);
        assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
        let mut dump = Vec::new();
        database.dump(&mut dump, &mut quiet).unwrap();
        database.load(&mut dump.as_slice(), &mut quiet).unwrap();
        assert_eq!(database.query(rights).unwrap(), before);
    }
}

#[test]
fn what_no_transaction_takes_runs_alone() {
    let fixture = Fixture::postgres_user();
    let mut database = fixture.open();
    for alone in [
        "CREATE TABLE t (a int); CREATE INDEX CONCURRENTLY i ON t (a); VACUUM t;",
        "CREATE TYPE mood AS ENUM ('a'); ALTER TYPE mood ADD VALUE 'b'; SELECT 'b'::mood;",
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$;
         CALL p();",
        "DO $$ BEGIN INSERT INTO t VALUES (2); COMMIT; END $$;",
    ] {
        let done = run(&mut *database, &[alone]).unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert!(!done.one_transaction, "{alone}");
    }
    assert_eq!(database.query("SELECT count(*) FROM t").unwrap(), [[Some("2".to_owned())]]);
    let done = run(&mut *database, &["DO $$ BEGIN RAISE WARNING 'careful'; END $$;"]).unwrap();
    assert!(done.one_transaction && done.scripts[0].warnings[0].contains("careful"), "{done:?}");
}

#[test]
fn a_deferred_constraint_is_checked_before_the_end() {
    let fixture = Fixture::postgres_user();
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let bad = "SET CONSTRAINTS ALL DEFERRED; INSERT INTO items VALUES (999, 'x');";
    let error = run(&mut *database, &[bad]).unwrap_err();
    assert!(chain(&error).contains("23503"), "{}", chain(&error));
    assert_eq!(database.sums().unwrap(), sums);
}

#[test]
fn copy_and_commands_of_psql_are_refused_with_a_reason() {
    let mut database = Fixture::postgres_user().open();
    for (bad, why) in [
        ("COPY t (a) FROM stdin;\n1\n\\.\n", "INSERT"),
        ("SELECT 1 \\gexec", "psql"),
        ("\\connect other", "psql"),
        ("SELECT $a$ open", "$a$"),
        ("/* /* */ SELECT 1", "*/"),
        ("SET standard_conforming_strings = off;", "standard"),
    ] {
        let error = run(&mut *database, &[bad]).unwrap_err();
        assert!(chain(&error).contains(why), "{bad}: {}", chain(&error));
    }
}

#[test]
fn what_a_crash_left_running_is_ended() {
    let fixture = Fixture::postgres_user();
    let mut database = fixture.open();
    let mut left = fixture.as_the_game();
    let Game::Postgres(client) = &mut left else { unreachable!() };
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let at_work = std::thread::spawn(move || {
        let Game::Postgres(client) = &mut left else { unreachable!() };
        client.batch_execute("SELECT pg_sleep(100000)").is_err()
    });
    database.end_orphans(&[u64::try_from(pid).unwrap()], LONG).unwrap();
    assert!(at_work.join().unwrap());
    // The numbers of sessions that are gone are no error.
    database.end_orphans(&[u64::try_from(pid).unwrap(), 1], LONG).unwrap();
}

#[test]
fn the_connection_of_a_script_is_journaled() {
    let mut database = Fixture::postgres_user().open();
    let mut log = Log::default();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let texts = ["CREATE TABLE t (pid int);", "INSERT INTO t VALUES (pg_backend_pid());"];
    database.run_scripts(&scripts(&texts), &mut log, &stop, &mut quiet).unwrap();
    let pid = database.query("SELECT pid FROM t").unwrap();
    assert_eq!(pid, [[Some(log.ids[1].to_string())]]);
}
