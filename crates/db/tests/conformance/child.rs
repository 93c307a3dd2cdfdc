//! Another process that works on the database and is killed in the middle, by itself, at a
//! moment that is always the same.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use entracte_db::{MariadbSettings, PostgresSettings, Progress, Settings, SqliteSettings, open};
use rustix::process::{Signal, getpid, kill_process};

use crate::fixture::Fixture;

const WHAT: &str = "DB_TEST_WHAT";
const AT: &str = "DB_TEST_AT";
const VALUES: &str = "DB_TEST_VALUES";

/// Runs `what` (`prepare`, `take`, `restore`, `migrate` or `lock`) on the point in `dir` in another
/// process, which kills itself with SIGKILL at its report of progress number `at` (from 0), or at
/// its moment of this number where it migrates. False where it came to its end without so many.
pub fn killed_at(fixture: &Fixture, what: &str, dir: &Path, at: usize) -> bool {
    let ended = start(fixture, what, dir, at).wait_with_output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended.status);
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(signal == Some(9) || ended.status.success(), "{said}");
    signal == Some(9)
}

/// Whether another process may write into a SQLite database.
pub fn gets_the_write_lock(fixture: &Fixture) -> bool {
    let ended = start(fixture, "lock", fixture.path(), 0).wait_with_output().unwrap();
    String::from_utf8_lossy(&ended.stdout).contains("the write lock was had")
}

/// The other process of [`killed_at`], for a test that kills it itself.
pub fn start(fixture: &Fixture, what: &str, dir: &Path, at: usize) -> Child {
    let values = match &fixture.settings {
        Settings::Sqlite(settings) => vec![settings.path.display().to_string()],
        Settings::Mariadb(settings) => vec![
            settings.socket.as_ref().unwrap().display().to_string(),
            settings.user.clone(),
            settings.password.reveal().to_owned(),
            settings.database.clone(),
            settings.data_dir.as_ref().map_or(String::new(), |dir| dir.display().to_string()),
        ],
        Settings::Postgres(settings) => vec![
            settings.socket_dir.as_ref().unwrap().display().to_string(),
            settings.user.clone(),
            settings.password.reveal().to_owned(),
            settings.port.to_string(),
        ],
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::the_other_process", "--nocapture"]);
    command
        .env(WHAT, what)
        .env(AT, at.to_string())
        .env(VALUES, format!("{}\n{}", dir.display(), values.join("\n")));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the other process does; in this one, nothing.
#[test]
fn the_other_process() {
    let Ok(what) = std::env::var(WHAT) else { return };
    let values = std::env::var(VALUES).unwrap();
    let values: Vec<&str> = values.split('\n').collect();
    let settings = match values[1..] {
        [path] => Settings::Sqlite(SqliteSettings { path: path.into() }),
        [socket, user, password, database, data_dir] => Settings::Mariadb(MariadbSettings {
            socket: Some(socket.into()),
            host: None,
            port: 0,
            user: user.to_owned(),
            password: password.into(),
            database: database.to_owned(),
            data_dir: Some(PathBuf::from(data_dir)).filter(|dir| !dir.as_os_str().is_empty()),
            game_users: Vec::new(),
        }),
        [socket_dir, user, password, port] => Settings::Postgres(PostgresSettings {
            socket_dir: Some(socket_dir.into()),
            host: None,
            port: port.parse().unwrap(),
            user: user.to_owned(),
            password: password.into(),
            // Each account of the fixtures has a database of its name.
            database: user.to_owned(),
            game_users: Vec::new(),
        }),
        _ => panic!("{values:?}"),
    };
    let left: usize = std::env::var(AT).unwrap().parse().unwrap();
    let mut more = left;
    let mut die = |_: Progress| match more {
        0 => kill_process(getpid(), Signal::KILL).unwrap(),
        _ => more -= 1,
    };
    let mut database = open(&settings).unwrap();
    let dir = Path::new(values[0]);
    match what.as_str() {
        "prepare" => drop(database.prepare_point(dir, &mut die).unwrap()),
        "migrate" => crate::sweep::run_and_die(&mut *database, &settings, dir, left),
        "take" => drop(database.take_point(dir, &mut die).unwrap()),
        "lock" => {
            let Settings::Sqlite(settings) = &settings else { unreachable!() };
            let other = rusqlite::Connection::open(&settings.path).unwrap();
            other.busy_timeout(std::time::Duration::ZERO).unwrap();
            if other.execute_batch("BEGIN IMMEDIATE").is_ok() {
                println!("the write lock was had");
            }
        }
        "restore" => {
            let point = database.probe_point(dir).unwrap().unwrap();
            database.restore_point(&point, &mut die).unwrap();
        }
        other => panic!("{other}"),
    }
}
