//! The exact rollback point: a directory whose `point.json`, written last, says that it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use entracte_model::Hash;
use entracte_model::way::{Way, Wish};
use serde::{Deserialize, Serialize};

use crate::error::DbError;
use crate::files::{private_dir, remove_if_there, remove_tree_if_there, sync_dir, write_durably};
use crate::mariadb::MariadbPoint;
use crate::postgres::PostgresPoint;

/// The version of the format of `point.json`. A newer one is refused. An older program would take
/// a point of version 2 for one whose tables are all files.
const FORMAT: u32 = 2;
const POINT_FILE: &str = "point.json";
/// What was prepared for the point while the game still ran.
const PREPARED: &str = "ahead";
/// What a point's directory may hold besides `point.json`.
const CONTENTS: [&str; 9] = [
    "point.sqlite",
    "point.sqlite-journal",
    "point.sqlite-wal",
    "point.sqlite-shm",
    "definitions.json",
    "dump.sql",
    "tables",
    "events",
    "point.json.new",
];

/// A complete rollback point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The version of this format.
    pub format: u32,
    /// Its directory.
    pub dir: PathBuf,
    /// The database it was taken of, in words (a path, or server and database).
    pub database: String,
    /// How it was taken.
    pub way: PointWay,
    /// Its size in bytes.
    pub bytes: u64,
    /// What a restore cannot bring back exactly, and why. Empty in almost every game.
    pub notes: Vec<String>,
    /// The hash of the definitions that lie beside it, where they do.
    pub definitions: Option<Hash>,
}

/// How a point was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum PointWay {
    /// A copy of a SQLite database.
    SqliteCopy {
        /// The journal mode, which the copy does not carry.
        journal_mode: String,
    },
    /// Copies of the table files of a MariaDB server on this machine.
    MariadbFiles(MariadbPoint),
    /// A dump of a moment before the window, and what the server logged from there to the fence.
    MariadbBinlog(MariadbPoint),
    /// A dump of the tables of a MariaDB server.
    MariadbDump(MariadbPoint),
    /// A clone of a PostgreSQL database on its own server.
    PostgresClone(PostgresPoint),
    /// A dump of a PostgreSQL database.
    PostgresDump(PostgresPoint),
}

impl PointWay {
    /// Which of the ways that a plan chooses between it is.
    pub fn way(&self) -> Way {
        match self {
            PointWay::SqliteCopy { .. } => Way::Copy,
            PointWay::MariadbFiles(_) => Way::Files,
            PointWay::MariadbBinlog(_) => Way::Binlog,
            PointWay::PostgresClone(_) => Way::Clone,
            PointWay::MariadbDump(_) | PointWay::PostgresDump(_) => Way::Dump,
        }
    }
}

/// Says that nothing that is wished for can be had.
pub(crate) fn not_as_wished(wish: Wish, why: &str) -> DbError {
    let wished = match wish {
        Wish::Only(way) | Wish::Prefer(way) => format!("the rollback point as {}", way.what()),
        Wish::Any => "the rollback point".to_owned(),
    };
    DbError::Unsupported {
        what: format!("{wished} cannot be taken: {why}"),
        hint: "make that possible, or let `point` of the database be \"auto\"".to_owned(),
    }
}

/// Makes `dir` an empty directory for a point, but for what was prepared for it. What an
/// interrupted attempt left is removed; anything else in it is refused.
pub(crate) fn begin(dir: &Path) -> Result<(), DbError> {
    private_dir(dir)?;
    let bad = |expected: &str, found: String| DbError::BadPoint {
        dir: dir.to_path_buf(),
        expected: expected.to_owned(),
        found,
    };
    let entries = fs::read_dir(dir).map_err(DbError::io("list", dir))?;
    for entry in entries {
        let entry = entry.map_err(DbError::io("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == POINT_FILE {
            return Err(bad("an empty directory", "a complete point".to_owned()));
        }
        if name == PREPARED {
            continue;
        }
        if !CONTENTS.contains(&name.as_str()) {
            return Err(bad("an empty directory", format!("`{name}` in it")));
        }
        if entry.path().is_dir() {
            remove_tree_if_there(&entry.path())?;
        } else {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Declares the point complete: everything in it is durable by now. A crash before the rename in
/// here leaves no point, one after it a whole one.
pub(crate) fn complete(
    dir: &Path,
    database: String,
    way: PointWay,
    bytes: u64,
    notes: Vec<String>,
    definitions: Option<Hash>,
) -> Result<Point, DbError> {
    let dir = fs::canonicalize(dir).map_err(DbError::io("look at", dir))?;
    let point =
        Point { format: FORMAT, dir: dir.clone(), database, way, bytes, notes, definitions };
    let json = serde_json::to_vec_pretty(&point).expect("a point has no map with odd keys");
    sync_dir(&dir)?;
    write_durably(&dir.join(POINT_FILE), &json)?;
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
    }
    Ok(point)
}

/// The complete point in `dir`, if there is one.
pub(crate) fn probe(dir: &Path) -> Result<Option<Point>, DbError> {
    let path = dir.join(POINT_FILE);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DbError::io("read", path)(error)),
    };
    let bad = |expected: String, found: String| DbError::BadPoint {
        dir: dir.to_path_buf(),
        expected,
        found,
    };
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let unreadable =
        |error: serde_json::Error| bad("a readable point.json".into(), error.to_string());
    let head: Head = serde_json::from_slice(&json).map_err(unreadable)?;
    if !(1..=FORMAT).contains(&head.format) {
        return Err(bad(format!("format {FORMAT} at most"), format!("format {}", head.format)));
    }
    let mut point: Point = serde_json::from_slice(&json).map_err(unreadable)?;
    // A point may have been moved with its directory.
    point.dir = fs::canonicalize(dir).map_err(DbError::io("look at", dir))?;
    Ok(Some(point))
}

/// Reads the point again, and sees that it is the one that is meant.
pub(crate) fn check(point: &Point, database: &str) -> Result<(), DbError> {
    let bad = |expected: &str, found: String| DbError::BadPoint {
        dir: point.dir.clone(),
        expected: expected.to_owned(),
        found,
    };
    if point.database != database {
        return Err(bad(&format!("a point of {database}"), format!("one of {}", point.database)));
    }
    match probe(&point.dir)? {
        Some(there) if there.way == point.way && there.definitions == point.definitions => Ok(()),
        Some(_) => Err(bad("the point that was taken", "another one".to_owned())),
        None => Err(bad("a complete point", "none".to_owned())),
    }
}

/// Removes the point. A crash in the middle leaves a directory without `point.json`, which is
/// no point any more.
pub(crate) fn drop_point(point: &Point) -> Result<(), DbError> {
    remove_if_there(&point.dir.join(POINT_FILE))?;
    remove_tree_if_there(&point.dir)
}
