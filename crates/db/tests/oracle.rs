//! Each script of `corpus/`, executed by us and by the engine's own client: afterwards the two
//! databases hold the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use entracte_db::{
    Database, DbError, MariadbSettings, PostgresSettings, Script, Secret, Settings, SqliteSettings,
    StatementAt, StatementLog, open,
};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::{Postgres, server_program};
use entracte_testbed::process::program;

/// Scripts with this prefix, and what the client is given: a file of its own where it lies
/// beside (for what the client needs a delimiter and we do not).
fn corpus(prefix: &str) -> Vec<(PathBuf, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut found: Vec<(PathBuf, PathBuf)> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "sql"))
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .map(|path| {
            let own = path.with_extension("client");
            let for_client = if own.exists() { own } else { path.clone() };
            (path, for_client)
        })
        .collect();
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

struct NoLog;

impl StatementLog for NoLog {
    fn intent(&mut self, _: &StatementAt) -> Result<(), String> {
        Ok(())
    }
    fn done(&mut self, _: &StatementAt, _: u64, _: &[String]) -> Result<(), String> {
        Ok(())
    }
    fn failed(&mut self, _: &StatementAt, _: &str) -> Result<(), String> {
        Ok(())
    }
}

fn by_us(database: &mut dyn Database, path: &Path) -> Result<(), DbError> {
    let script = Script { name: "x.sql".to_owned(), bytes: fs::read(path).unwrap() };
    let stop = AtomicBool::new(false);
    database.run_scripts(&[script], &mut NoLog, &stop, &mut |_| {}).map(drop)
}

fn compare(
    path: &Path,
    ours: &Result<(), DbError>,
    client: &std::process::Output,
    a: &Settings,
    b: &Settings,
) {
    let said = String::from_utf8_lossy(&client.stderr);
    assert_eq!(ours.is_ok(), client.status.success(), "{}: {ours:?}, {said}", path.display());
    assert_eq!(ours.is_ok(), !path.to_string_lossy().contains("fails"), "{}", path.display());
    let (a, b) = (open(a).unwrap().sums().unwrap(), open(b).unwrap().sums().unwrap());
    assert!(!b.tables.is_empty(), "{}", path.display());
    assert_eq!(b.differences(&a), Vec::<String>::new(), "{}", path.display());
}

#[test]
fn mariadb_holds_the_same_after_us_and_after_its_client() {
    let server = Mariadb::start();
    for (number, (path, for_client)) in corpus("mariadb-").iter().enumerate() {
        let settings = ["us", "client"].map(|who| {
            let name = format!("{who}_{number}");
            server.create_database(&name, &name, "");
            Settings::Mariadb(MariadbSettings {
                socket: Some(server.socket().to_owned()),
                host: None,
                port: 0,
                user: "root".to_owned(),
                password: Secret::default(),
                database: name,
                data_dir: None,
                game_users: Vec::new(),
            })
        });
        let client = Command::new(program(&["mariadb", "mysql"]))
            .arg("--no-defaults")
            .arg(format!("--socket={}", server.socket().display()))
            .args(["--user=root", "--default-character-set=utf8mb4", &format!("client_{number}")])
            .stdin(File::open(for_client).unwrap())
            .output()
            .unwrap();
        let ours = by_us(&mut *open(&settings[0]).unwrap(), path);
        compare(path, &ours, &client, &settings[0], &settings[1]);
    }
}

#[test]
fn sqlite_holds_the_same_after_us_and_after_its_client() {
    for (path, for_client) in corpus("sqlite-") {
        let dir = tempfile::tempdir().unwrap();
        let settings = ["us", "client"].map(|who| {
            let path = dir.path().join(who);
            File::create(&path).unwrap();
            Settings::Sqlite(SqliteSettings { path })
        });
        let client = Command::new(program(&["sqlite3"]))
            .args(["-batch", "-bail"])
            .arg(dir.path().join("client"))
            .stdin(File::open(for_client).unwrap())
            .output()
            .unwrap();
        let ours = by_us(&mut *open(&settings[0]).unwrap(), &path);
        compare(&path, &ours, &client, &settings[0], &settings[1]);
    }
}

#[test]
fn postgres_holds_the_same_after_us_and_after_its_client() {
    let server = Postgres::start();
    for (number, (path, for_client)) in corpus("postgres-").iter().enumerate() {
        let settings = ["us", "client"].map(|who| {
            let name = format!("{who}_{number}");
            // The same owner: whom an object belongs to is part of the sums.
            server.root("postgres").batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
            Settings::Postgres(PostgresSettings {
                socket_dir: Some(server.socket_dir().to_owned()),
                host: None,
                port: server.port(),
                user: "postgres".to_owned(),
                password: Secret::default(),
                database: name,
                game_users: Vec::new(),
            })
        });
        let client = Command::new(server_program("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres"])
            .arg(format!("--host={}", server.socket_dir().display()))
            .args([format!("--port={}", server.port()), format!("client_{number}")])
            .env("PGCLIENTENCODING", "UTF8")
            .stdin(File::open(for_client).unwrap())
            .output()
            .unwrap();
        let ours = by_us(&mut *open(&settings[0]).unwrap(), path);
        compare(path, &ours, &client, &settings[0], &settings[1]);
    }
}
