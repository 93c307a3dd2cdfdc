//! The crash sweep of the scripts: our process, or the server, dies before and after the effect
//! of each statement and before and after its record, and while a statement runs. Whoever takes
//! it up afterwards, the database is exactly the old one or exactly the new one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entracte_db::{Database, DbError, Settings, StatementAt, StatementLog, Sums};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::Postgres;
use entracte_testbed::process::wait_until;
use mysql::prelude::Queryable;
use rustix::process::{Signal, getpid, kill_process};

use crate::child;
use crate::fixture::{Fixture, chain, quiet, scripts};

const LONG: Duration = Duration::from_secs(60);
const LONG_MS: u64 = 60_000;
/// Four for each statement: about to note the intent, intent noted, about to note the end, end
/// noted. Then one when all of it has returned.
const MOMENTS: usize = 4;
/// The statement that takes its time, from 1.
const SLOW: u64 = 2;
/// For a process that is not to die by itself.
const NEVER: usize = usize::MAX;

const SQLITE: &str = "
ALTER TABLE players ADD COLUMN level INT NOT NULL DEFAULT 1;
UPDATE players SET gold = COALESCE(gold, 0) + 1;
CREATE TABLE market (id INTEGER PRIMARY KEY, price REAL);
DELETE FROM items WHERE owner = 1;
";

const MARIADB: &str = "
ALTER TABLE players ADD COLUMN level INT NOT NULL DEFAULT 1;
UPDATE players SET gold = COALESCE(gold, 0) + 1 + SLEEP(0.2);
CREATE TABLE market (id INT AUTO_INCREMENT PRIMARY KEY, price DOUBLE);
DELETE FROM items WHERE owner = 1;
";

const POSTGRES: &str = "
ALTER TABLE players ADD COLUMN more_level int NOT NULL DEFAULT 1;
UPDATE players SET gold = COALESCE(gold, 0) + 1 WHERE pg_sleep(0.2) IS NOT NULL;
CREATE TABLE market (id int PRIMARY KEY, price float);
DELETE FROM items WHERE owner = 1;
";

/// The statements of the release, in a journal of its own file as a release keeps them.
struct Journal<'a> {
    path: PathBuf,
    /// Told of each moment; it may not return from it.
    reached: Box<dyn FnMut(usize) + 'a>,
    moment: usize,
}

impl<'a> Journal<'a> {
    fn new(dir: &Path, reached: impl FnMut(usize) + 'a) -> Self {
        Self { path: dir.join("journal"), reached: Box::new(reached), moment: 0 }
    }

    fn moment(&mut self) {
        (self.reached)(self.moment);
        self.moment += 1;
    }

    fn note(&mut self, line: &str) -> Result<(), String> {
        self.moment();
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let written = file.and_then(|mut file| {
            writeln!(file, "{line}")?;
            file.sync_data()
        });
        written.map_err(|error| error.to_string())?;
        self.moment();
        Ok(())
    }
}

impl StatementLog for Journal<'_> {
    fn intent(&mut self, at: &StatementAt) -> Result<(), String> {
        self.note(&format!("intent {} {}", at.number, at.connection_id.unwrap_or(0)))
    }

    fn done(&mut self, at: &StatementAt, _: u64, _: &[String]) -> Result<(), String> {
        self.note(&format!("done {}", at.number))
    }

    fn failed(&mut self, at: &StatementAt, _: &str) -> Result<(), String> {
        self.note(&format!("failed {}", at.number))
    }
}

fn release(settings: &Settings) -> &'static str {
    match settings {
        Settings::Sqlite(_) => SQLITE,
        Settings::Mariadb(_) => MARIADB,
        Settings::Postgres(_) => POSTGRES,
    }
}

/// Runs the scripts and tells the journal in `dir`; the last moment is when that has returned.
fn run(
    database: &mut dyn Database,
    settings: &Settings,
    journal: &mut Journal<'_>,
) -> Result<(), DbError> {
    let stop = AtomicBool::new(false);
    database.run_scripts(&scripts(&[release(settings)]), journal, &stop, &mut quiet)?;
    let path = journal.path.with_file_name("returned");
    fs::write(path, b"").unwrap();
    journal.moment();
    Ok(())
}

/// What the other process does.
pub fn run_and_die(database: &mut dyn Database, settings: &Settings, dir: &Path, at: usize) {
    let mut journal = Journal::new(dir, |moment| {
        if moment == at {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    });
    run(database, settings, &mut journal).unwrap();
}

/// A seeded database with its point, and what it has to be equal to.
struct Case {
    fixture: Fixture,
    point: entracte_db::Point,
    old: Sums,
    new: Sums,
    /// What the scripts do is there as a whole or not at all.
    atomic: bool,
}

impl Case {
    fn of(fixture: Fixture) -> Self {
        let mut database = fixture.seeded();
        if fixture.is_postgres() {
            // A table without a log is empty after a crash of its server, on the server's word.
            crate::fixture::run(&mut *database, &["DROP TABLE cache;"]).unwrap();
        }
        let old = database.sums().unwrap();
        let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
        let all = scripts(&[release(&fixture.settings)]);
        let log = &mut crate::fixture::Log::default();
        let done = database.run_scripts(&all, log, &AtomicBool::new(false), &mut quiet).unwrap();
        let new = database.sums().unwrap();
        assert!(old.differences(&new).len() > 2);
        let mut case = Self { fixture, point, old, new, atomic: done.one_transaction };
        case.go_back("at first");
        case
    }

    /// A folder for the journal of one attempt.
    fn attempt(&self, name: &str) -> PathBuf {
        let dir = self.fixture.path().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn go_back(&mut self, what: &str) {
        let mut database = self.fixture.open();
        database
            .restore_point(&self.point, &mut quiet)
            .unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        let found = database.sums().unwrap();
        assert_eq!(self.old.differences(&found), Vec::<String>::new(), "{what}");
    }

    /// As a release does that finds itself interrupted: ends what goes on, and goes back, unless
    /// everything was done.
    fn recover(&mut self, dir: &Path, what: &str) {
        let mut database = self.fixture.open();
        let journal = fs::read_to_string(dir.join("journal")).unwrap_or_default();
        let of = |line: &str| line.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok());
        let ended: Vec<_> = journal.lines().filter(|line| !line.starts_with("intent")).collect();
        let unfinished: Vec<u64> = journal
            .lines()
            .filter(|line| line.starts_with("intent"))
            .filter(|line| !ended.iter().any(|end| of(end) == of(line)))
            .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
            .collect();
        database.end_orphans(&unfinished, LONG).unwrap();
        let returned = dir.join("returned").exists();
        let found = database.sums().unwrap();
        if returned {
            assert_eq!(self.new.differences(&found), Vec::<String>::new(), "{what}");
        } else if self.atomic {
            let differences = self.old.differences(&found);
            // The last moment is behind the commit and before the return.
            let is_new = self.new.differences(&found).is_empty();
            assert!(differences.is_empty() || is_new, "{what}: {differences:?}");
        }
        drop(database);
        self.go_back(what);
    }
}

/// Our process dies at each moment, and then once more while a statement runs.
fn our_process_dies(fixture: Fixture) {
    let mut case = Case::of(fixture);
    let statements = 4;
    for at in 0..=statements * MOMENTS {
        let (what, dir) = (format!("moment {at}"), case.attempt(&format!("attempt-{at}")));
        assert!(child::killed_at(&case.fixture, "migrate", &dir, at), "{what}: it was to die");
        case.recover(&dir, &what);
    }
    if case.fixture.is_sqlite() {
        // A statement there dies with its process.
        return;
    }
    let dir = case.attempt("while-one-runs");
    let mut other = child::start(&case.fixture, "migrate", &dir, NEVER);
    let slow = format!("intent {SLOW} ");
    let begun = || fs::read_to_string(dir.join("journal")).is_ok_and(|text| text.contains(&slow));
    assert!(wait_until(LONG_MS, begun));
    other.kill().unwrap();
    other.wait().unwrap();
    case.recover(&dir, "while a statement runs");
}

#[test]
fn our_process_dies_on_sqlite() {
    our_process_dies(Fixture::sqlite());
}

#[test]
fn our_process_dies_on_mariadb() {
    our_process_dies(Fixture::mariadb_admin());
}

#[test]
fn our_process_dies_on_postgres() {
    our_process_dies(Fixture::postgres_creator());
}

/// The server dies at each moment around the statements, and while one runs.
fn the_server_dies(
    fixture: Fixture,
    kill: impl Fn() + Sync,
    start: impl Fn(),
    runs_a_statement: impl Fn() -> bool + Sync,
) {
    let mut case = Case::of(fixture);
    // Before and after the effect; a journal's record is no matter of the server.
    let moments = [1, 2, 5, 6, 9, 10, 13, 14];
    for at in moments {
        let (what, dir) = (format!("moment {at}"), case.attempt(&format!("attempt-{at}")));
        let mut journal = Journal::new(&dir, |moment| {
            if moment == at {
                kill();
            }
        });
        let mut database = case.fixture.open();
        let result = run(&mut *database, &case.fixture.settings, &mut journal);
        assert!(result.is_err(), "{what}: it was to fail");
        drop((database, journal));
        start();
        case.recover(&dir, &what);
    }
    // Wherever the killer finds the server: the statement at work, or just behind it on a busy
    // machine.
    let dir = case.attempt("while-one-runs");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            wait_until(LONG_MS, || over.load(Ordering::SeqCst) || runs_a_statement());
            kill();
        });
        let mut database = case.fixture.open();
        let mut journal = Journal::new(&dir, |_| {});
        let ended = run(&mut *database, &case.fixture.settings, &mut journal);
        over.store(true, Ordering::SeqCst);
        killer.join().unwrap();
        assert_eq!(ended.is_ok(), dir.join("returned").exists());
    });
    start();
    case.recover(&dir, "while a statement runs");
}

#[test]
fn the_server_dies_on_mariadb() {
    let server = Arc::new(Mariadb::start());
    let mut fixture = Fixture::mariadb(server.clone());
    let settings = fixture.mariadb_settings_mut();
    settings.user = "root".to_owned();
    settings.password = "".into();
    settings.data_dir = Some(server.data_dir().to_owned());
    let sql =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE players%'";
    let mut root = server.root();
    let observer = std::sync::Mutex::new(&mut root);
    let runs = || {
        let found = observer.lock().unwrap().query_first::<u64, _>(sql);
        found.is_ok_and(|found| found.unwrap_or(0) > 0)
    };
    // The observer's own connection dies with the first server: it is made anew each time.
    let start = || {
        server.start_again();
        **observer.lock().unwrap() = server.root();
    };
    the_server_dies(fixture, || server.kill(), start, runs);
}

#[test]
fn the_server_dies_on_postgres() {
    let server = Arc::new(Postgres::start());
    let fixture = Fixture::postgres(server.clone(), "CREATEDB");
    let sql =
        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'UPDATE players%'";
    let observer = std::sync::Mutex::new(server.root("postgres"));
    let runs = || observer.lock().unwrap().query(sql, &[]).is_ok_and(|rows| !rows.is_empty());
    let start = || {
        server.start_again();
        *observer.lock().unwrap() = server.root("postgres");
    };
    the_server_dies(fixture, || server.kill(), start, runs);
}
