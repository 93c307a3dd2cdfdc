//! Proof that nobody else writes into a SQLite file.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::database::FenceProof;
use crate::error::{DbError, Session};

/// The time between the two readings that have to be equal.
const QUIET_MS: u64 = 120;
const PAUSE_MS: u64 = 20;

/// Takes the write lock twice, and sees that between the two nothing was committed.
pub(super) fn fence(
    connection: &Connection,
    path: &Path,
    patience: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<FenceProof, DbError> {
    let deadline = Instant::now() + patience;
    let doing = || DbError::engine::<rusqlite::Error>("waiting for the others to stop writing");
    connection.busy_timeout(Duration::ZERO).map_err(doing())?;
    let mut said = false;
    loop {
        let first = locked_version(connection)?;
        if first.is_some() {
            thread::sleep(Duration::from_millis(QUIET_MS));
            let second = locked_version(connection)?;
            if let (Some(first), Some(second)) = (first, second)
                && first == second
            {
                let evidence = vec![("data_version".to_owned(), second.to_string())];
                return Ok(FenceProof { evidence, ..FenceProof::default() });
            }
        }
        if !std::mem::replace(&mut said, true) {
            say("waiting for others who write into the database file");
        }
        if Instant::now() >= deadline {
            return Err(DbError::StillWriting {
                sessions: holders(path),
                hint: "add the programs that write into the database file to the workers and \
                       crons that a release stops"
                    .to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(PAUSE_MS));
    }
}

/// The engine's count of commits by others, read while we hold the write lock; `None` where
/// another holds it.
fn locked_version(connection: &Connection) -> Result<Option<i64>, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("asking for the write lock");
    match connection.execute_batch("BEGIN IMMEDIATE") {
        Ok(()) => {}
        Err(error) if is_locked(&error) => return Ok(None),
        Err(error) => return Err(doing()(error)),
    }
    let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
    connection.execute_batch("ROLLBACK").map_err(doing())?;
    version.map(Some).map_err(doing())
}

pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// The processes that have the database open, as far as the system lets us see them.
pub(super) fn holders(path: &Path) -> Vec<Session> {
    let Ok(path) = fs::canonicalize(path) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let own = u64::from(std::process::id());
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u64>().ok();
    let is_open = |pid: u64| {
        fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|files| {
            files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| to == path))
        })
    };
    processes
        .flatten()
        .filter_map(number)
        .filter(|pid| *pid != own && is_open(*pid))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Session {
                id: pid,
                user: name.trim_end().to_owned(),
                host: "this machine".to_owned(),
                doing: "has the database file open".to_owned(),
                since_s: None,
            }
        })
        .collect()
}
