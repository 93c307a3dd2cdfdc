//! The rollback point of a SQLite database: a copy of its file, prepared while the game runs, or
//! one through the engine's own backup interface where the file alone is not the database. Back
//! by that interface, which works with the game's old handles still open (a replaced file would
//! not: they would go on writing into the old one).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::point_ahead;
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{private_file, sync_file};
use crate::point::{self, Point, PointWay};

const COPY: &str = "point.sqlite";
/// Pages between two reports of progress.
const PAGES_PER_STEP: i32 = 2_048;
/// How long a locked database is tried again.
const LOCKED_MS_MAX: u64 = 30_000;
const LOCKED_PAUSE_MS: u64 = 20;

pub(super) fn take(
    live: &Connection,
    file: &Path,
    database: String,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Point, DbError> {
    point::begin(dir)?;
    let journal_mode = journal_mode(live)?;
    let path = dir.join(COPY);
    let mut notes = Vec::new();
    if !point_ahead::take(live, file, dir, progress)? {
        notes.push(
            "copied as a whole through the engine: somebody reads an old state of the database, \
             so its write-ahead log could not be emptied"
                .to_owned(),
        );
        copy_to(live, &path, "rollback point", progress)?;
    }
    point_ahead::discard(dir)?;
    let bytes = std::fs::metadata(&path).map_err(DbError::io("look at", &path))?.len();
    let way = PointWay::SqliteCopy { journal_mode };
    point::complete(dir, database, way, bytes, notes, None)
}

/// Brings the copy back. Until the engine commits it (one transaction) a crash leaves the
/// database as it was, by its own journal.
pub(super) fn restore(
    live: &mut Connection,
    point: &Point,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let PointWay::SqliteCopy { journal_mode: wanted } = &point.way else {
        return Err(DbError::BadPoint {
            dir: point.dir.clone(),
            expected: "the copy of a SQLite database".to_owned(),
            found: "a point of another engine".to_owned(),
        });
    };
    let path = point.dir.join(COPY);
    copy_from(live, &path, "taking the database back", progress)?;
    if journal_mode(live)? != *wanted {
        set_journal_mode(live, wanted, progress)?;
    }
    Ok(())
}

/// The engine does not leave the write-ahead log while others have the file open. The contents
/// are back by then, and as good in one mode as in the other.
fn set_journal_mode(
    live: &Connection,
    wanted: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    match live.pragma_update(None, "journal_mode", wanted) {
        Err(error) if matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) => {
            let note = format!("the journal mode is not back to {wanted}: the file is in use");
            progress(Progress { done: 1, total: 1, unit: "tables", note });
            Ok(())
        }
        set => set.map_err(DbError::engine("setting the journal mode back")),
    }
}

fn journal_mode(connection: &Connection) -> Result<String, DbError> {
    connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(DbError::engine::<
        rusqlite::Error,
    >(
        "reading the journal mode",
    ))
}

/// Copies the database of `live` into the file `path`, durably.
pub(super) fn copy_to(
    live: &Connection,
    path: &Path,
    note: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    // Created here for its mode; the engine takes an empty file for an empty database.
    drop(private_file(path)?);
    let doing = || DbError::engine::<rusqlite::Error>("copying the database");
    let mut copy = Connection::open(path).map_err(doing())?;
    copy.pragma_update(None, "synchronous", "FULL").map_err(doing())?;
    run(&Backup::new(live, &mut copy).map_err(doing())?, page_bytes(live)?, note, progress)?;
    drop(copy);
    sync_file(path)
}

/// Copies the database in the file `path` over that of `live`, in one transaction.
pub(super) fn copy_from(
    live: &mut Connection,
    path: &Path,
    note: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("copying the database back");
    // Nobody changes the copy, so nothing is made beside it, whatever its journal mode.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let copy = Connection::open_with_flags(immutable(path), flags).map_err(doing())?;
    let page_bytes = page_bytes(&copy)?;
    run(&Backup::new(&copy, live).map_err(doing())?, page_bytes, note, progress)
}

/// The file's name as the engine takes it for a file that stands still.
fn immutable(path: &Path) -> OsString {
    let mut name = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => name.extend(format!("%{byte:02x}").bytes()),
            byte => name.push(*byte),
        }
    }
    name.extend(b"?immutable=1");
    OsString::from_vec(name)
}

fn page_bytes(connection: &Connection) -> Result<u64, DbError> {
    connection
        .query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
        .map_err(DbError::engine::<rusqlite::Error>("reading the page size"))
}

fn run(
    backup: &Backup<'_, '_>,
    page_bytes: u64,
    note: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let mut waited_ms = 0;
    loop {
        let step = backup
            .step(PAGES_PER_STEP)
            .map_err(DbError::engine::<rusqlite::Error>("copying the database"))?;
        let at = backup.progress();
        let pages = |count: i32| u64::from(count.unsigned_abs()) * page_bytes;
        match step {
            StepResult::Busy | StepResult::Locked if waited_ms >= LOCKED_MS_MAX => {
                return Err(DbError::StillWriting {
                    sessions: Vec::new(),
                    hint: "the database file stays locked: stop the game's workers and crons"
                        .to_owned(),
                });
            }
            StepResult::Busy | StepResult::Locked => {
                std::thread::sleep(Duration::from_millis(LOCKED_PAUSE_MS));
                waited_ms += LOCKED_PAUSE_MS;
            }
            done => {
                progress(Progress {
                    done: pages(at.pagecount - at.remaining),
                    total: pages(at.pagecount),
                    unit: "bytes",
                    note: note.to_owned(),
                });
                if done == StepResult::Done {
                    return Ok(());
                }
            }
        }
    }
}
