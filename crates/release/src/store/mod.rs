//! The store of one production: releases, their journals, statements, scripts, the outbox.
//!
//! One SQLite file in the state directory, write-ahead log, `synchronous = FULL`: when a write
//! returns, it survives a power cut. A crash can cost the write that was under way, never one
//! that returned. There is one writer at a time, the holder of the release lock; readers
//! (`entracte log -f`, the dashboard) come and go.

mod excerpt;
mod journal;
mod outbox;
mod production;
mod statements;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use journal::Release;
pub use outbox::{Pending, Queued};
pub use production::Production;
pub use statements::{Applied, Unfinished};

/// The layout of the store that this program writes.
const FORMAT: u32 = 1;
/// How long a reader or writer waits for another before it gives up.
const BUSY_MS_MAX: u64 = 10_000;

/// The open store.
pub struct Store {
    pub(crate) conn: Connection,
    path: PathBuf,
}

/// A store that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written.
    #[error("the store {path} cannot be used")]
    Sqlite {
        /// The file.
        path: String,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// There is no store yet.
    #[error("{path} does not exist: Entracte does not know this production yet")]
    Missing {
        /// The file.
        path: String,
    },
    /// Written by a newer program.
    #[error("the store {path} has format {found}; this program reads {FORMAT}")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
    },
    /// Something in it cannot have been written by this program.
    #[error("the store holds an entry that cannot be right: {what}")]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// A release that is not there.
    #[error("there is no release {id}; `entracte history` lists them")]
    NoSuchRelease {
        /// The release asked for.
        id: String,
    },
}

impl StoreError {
    /// Whether more room on the disk could mend it.
    pub(crate) fn wants_room(&self) -> bool {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        match self {
            // The shared index of the write-ahead log meets a full disk as a failure of I/O.
            StoreError::Sqlite { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DiskFull | SystemIoFailure))
            }
            _ => false,
        }
    }
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS release (
  id       INTEGER PRIMARY KEY,
  created  INTEGER NOT NULL,
  plan     TEXT NOT NULL,
  outcome  TEXT,
  start_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS journal (
  release INTEGER NOT NULL REFERENCES release(id),
  seq     INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  event   TEXT NOT NULL,
  hash    TEXT NOT NULL,
  PRIMARY KEY (release, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS statement (
  release       INTEGER NOT NULL REFERENCES release(id),
  script        TEXT NOT NULL,
  number        INTEGER NOT NULL,
  offset        INTEGER NOT NULL,
  excerpt       TEXT NOT NULL,
  connection_id INTEGER,
  state         TEXT NOT NULL CHECK (state IN ('intent','done','failed','undone')),
  rows          INTEGER,
  note          TEXT,
  PRIMARY KEY (release, script, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS script (
  name       TEXT NOT NULL,
  hash       TEXT NOT NULL,
  raw_hash   TEXT NOT NULL,
  release    INTEGER NOT NULL REFERENCES release(id),
  applied    INTEGER NOT NULL,
  PRIMARY KEY (name, release)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS production (
  release  INTEGER PRIMARY KEY,
  version  TEXT NOT NULL,
  manifest TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  since    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS manifest (
  hash TEXT PRIMARY KEY,
  json TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fragment (
  release INTEGER NOT NULL REFERENCES release(id),
  name    TEXT NOT NULL,
  hash    TEXT NOT NULL,
  PRIMARY KEY (release, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS news (
  version   TEXT PRIMARY KEY,
  release   INTEGER NOT NULL,
  item      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
  event     TEXT NOT NULL,
  channel   TEXT NOT NULL,
  language  TEXT NOT NULL,
  part      INTEGER NOT NULL,
  message   TEXT NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('waiting','sending','delivered','dead','unknown')),
  attempts  INTEGER NOT NULL DEFAULT 0,
  next_at   INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  remote_id TEXT,
  why       TEXT,
  PRIMARY KEY (event, channel, language, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

impl Store {
    /// Opens the store at `path`, making it where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let conn = Connection::open(path).map_err(|source| sqlite(path, source))?;
        let store = Self { conn, path: path.to_owned() };
        store.prepare().map_err(|source| sqlite(path, source))?;
        let found: u32 =
            store.ask(|conn| conn.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        if found > FORMAT {
            return Err(StoreError::Newer { path: path.display().to_string(), found });
        }
        if found < FORMAT {
            store.ask(|conn| {
                conn.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT"
                ))
            })?;
        }
        Ok(store)
    }

    /// Opens a store that must be there already.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.display().to_string() });
        }
        Self::open(path)
    }

    /// Opens a store only to read it; nothing where there is none.
    pub fn open_to_read(path: &Path) -> Result<Option<Self>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn =
            Connection::open_with_flags(path, flags).map_err(|source| sqlite(path, source))?;
        let store = Self { conn, path: path.to_owned() };
        store
            .conn
            .busy_timeout(Duration::from_millis(BUSY_MS_MAX))
            .and_then(|()| store.conn.pragma_update(None, "query_only", true))
            .map_err(|source| sqlite(path, source))?;
        Ok(Some(store))
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.conn.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
        self.conn.pragma_update(None, "journal_mode", "wal")?;
        self.conn.pragma_update(None, "synchronous", "full")?;
        self.conn.pragma_update(None, "foreign_keys", true)
    }

    /// Whether a change is on the disk when it returns (as it is from the beginning), or only
    /// survives the death of this process until the next one that is.
    pub(crate) fn wait_for_disk(&self, wait: bool) -> Result<(), StoreError> {
        let mode = if wait { "full" } else { "normal" };
        self.ask(|conn| conn.pragma_update(None, "synchronous", mode))
    }

    /// Makes `change` without waiting for the disk, whatever the mode is otherwise.
    pub(crate) fn without_waiting<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mode: i64 =
            self.ask(|conn| conn.pragma_query_value(None, "synchronous", |row| row.get(0)))?;
        self.wait_for_disk(false)?;
        let changed = change(self);
        // It is a variable in SQLite's memory. To go on as if entries were synced would be worse
        // than to end here: what was written is taken up by `resume`.
        self.ask(|conn| conn.pragma_update(None, "synchronous", mode))
            .expect("setting a variable of an open connection");
        changed
    }

    /// One question or change, with the store's name in its error.
    pub(crate) fn ask<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.conn).map_err(|source| sqlite(&self.path, source))
    }

    /// Several changes that happen together or not at all.
    pub(crate) fn together<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let all = || {
            let transaction =
                self.conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        all().map_err(|source| sqlite(&path, source))
    }

    /// A setting that is kept with production, such as a freeze.
    pub fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        use rusqlite::OptionalExtension;
        self.ask(|conn| {
            conn.query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
                .optional()
        })
    }

    /// Sets or, with nothing, removes a setting.
    pub fn set_setting(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        self.ask(|conn| match value {
            Some(value) => conn.execute(
                "INSERT INTO setting (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [name, value],
            ),
            None => conn.execute("DELETE FROM setting WHERE name = ?1", [name]),
        })?;
        Ok(())
    }
}

fn sqlite(path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Sqlite { path: path.display().to_string(), source }
}

pub(crate) fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: what.to_string() }
}

/// SQLite keeps signed numbers; ids and counters of ours stay far below its limit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
