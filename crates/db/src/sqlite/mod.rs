//! SQLite: the embedded default.

mod definitions;
mod dump;
mod fence;
mod point;
mod point_ahead;
mod scripts;
mod sums;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use entracte_model::schema::Schema;
use entracte_model::way::{Offer, Way, Wish};
use rusqlite::{Connection, OpenFlags};

use crate::contents::Contents;
use crate::database::{
    Database, FenceProof, Progress, QUERY_ROWS_MAX, Script, ScriptsDone, StatementLog,
};
use crate::error::DbError;
use crate::facts::{Facts, Sums};
use crate::point::Point;
use crate::script::{self, Engine, leading_words};
use crate::settings::SqliteSettings;

pub(crate) use self::definitions::{copy_definitions, seed_table, snapshot};

/// How long another connection's lock is waited for, wherever no patience was given.
const BUSY_MS: u64 = 10_000;

/// A SQLite database file. Every operation opens it anew: a handle that is kept would hold a
/// lock, or go on seeing the old file when somebody replaces it.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    wish: Wish,
}

impl Sqlite {
    /// Opens the database once to see that it is one.
    pub(crate) fn open(settings: &SqliteSettings) -> Result<Self, DbError> {
        let sqlite = Self { path: settings.path.clone(), wish: Wish::Any };
        let connection = sqlite.connect()?;
        let read = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()));
        read.map_err(|error| DbError::Unreachable {
            target: sqlite.target(),
            source: error.into(),
        })?;
        Ok(sqlite)
    }

    fn target(&self) -> String {
        // The real path, so that a point is known again whatever name it is reached by.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        format!("sqlite {}", path.display())
    }

    /// The file itself: its log lies beside it, not beside a link to it.
    fn file(&self) -> Result<PathBuf, DbError> {
        std::fs::canonicalize(&self.path).map_err(DbError::io("look at", &self.path))
    }

    /// A new connection, which behaves as one of the sqlite3 program.
    fn connect(&self) -> Result<Connection, DbError> {
        // Without CREATE: a mistyped path must not become an empty game.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let unreachable = |error: rusqlite::Error| DbError::Unreachable {
            target: self.target(),
            source: error.into(),
        };
        let connection = Connection::open_with_flags(&self.path, flags).map_err(unreachable)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS)).map_err(unreachable)?;
        // Not what a player's game has, but what every published script was tried with: dropping
        // a table with the checks on deletes the rows that point to it.
        connection.pragma_update(None, "foreign_keys", false).map_err(unreachable)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(unreachable)?;
        Ok(connection)
    }
}

impl Database for Sqlite {
    fn facts(&mut self) -> Result<Facts, DbError> {
        sums::facts(&self.connect()?)
    }

    fn schema(&mut self) -> Result<Schema, DbError> {
        sums::schema(&self.connect()?)
    }

    fn sums(&mut self) -> Result<Sums, DbError> {
        sums::sums(&self.connect()?)
    }

    fn fence_intent(&mut self) -> Result<FenceProof, DbError> {
        Ok(FenceProof::default())
    }

    fn fence(
        &mut self,
        patience: Duration,
        say: &mut dyn FnMut(&str),
    ) -> Result<FenceProof, DbError> {
        fence::fence(&self.connect()?, &self.path, patience, say)
    }

    fn unfence(&mut self, _proof: Option<&FenceProof>) -> Result<(), DbError> {
        // Nothing was locked: SQLite has no accounts, and a lock would die with its process.
        Ok(())
    }

    fn wish_for(&mut self, wish: Wish) {
        self.wish = wish;
    }

    fn ways(&mut self, dir: &Path) -> Result<Vec<Offer>, DbError> {
        point_ahead::offer(&self.file()?, dir).map(|offer| vec![offer])
    }

    fn prepare_point(
        &mut self,
        dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<u64>, DbError> {
        point_ahead::prepare(&self.connect()?, &self.file()?, dir, progress)
    }

    fn take_point(
        &mut self,
        dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Point, DbError> {
        if !self.wish.allows(Way::Copy) {
            let why = "a SQLite database has only that of a copy";
            return Err(crate::point::not_as_wished(self.wish, why));
        }
        point::take(&self.connect()?, &self.file()?, self.target(), dir, progress)
    }

    fn probe_point(&mut self, dir: &Path) -> Result<Option<Point>, DbError> {
        crate::point::probe(dir)
    }

    fn restore_point(
        &mut self,
        point: &Point,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError> {
        crate::point::check(point, &self.target())?;
        point::restore(&mut self.connect()?, point, progress)
    }

    fn drop_point(&mut self, point: &Point) -> Result<(), DbError> {
        crate::point::drop_point(point)
    }

    fn run_scripts(
        &mut self,
        scripts: &[Script],
        log: &mut dyn StatementLog,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ScriptsDone, DbError> {
        scripts::run(self, scripts, log, stop, progress)
    }

    fn end_orphans(&mut self, _ids: &[u64], _patience: Duration) -> Result<(), DbError> {
        // A statement dies with the process that executes it.
        Ok(())
    }

    fn dump(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, DbError> {
        dump::dump(&self.connect()?, &self.path, out, progress)
    }

    fn dump_with_contents(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(u64, Contents), DbError> {
        dump::dump_with_contents(&self.connect()?, &self.path, out, progress)
    }

    fn load(
        &mut self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError> {
        dump::load(&mut self.connect()?, &self.path, input, progress)
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let refused = |what: &str| DbError::Refused {
            script: "query".to_owned(),
            line: 1,
            what: what.to_owned(),
            hint: "ask with one SELECT".to_owned(),
        };
        let statements = script::statements(Engine::Sqlite, sql.as_bytes())
            .map_err(|source| DbError::Script { script: "query".to_owned(), source })?;
        let [only] = statements.as_slice() else {
            return Err(refused("not exactly one statement"));
        };
        let connection = self.connect()?;
        let doing = || DbError::engine::<rusqlite::Error>("answering a query");
        connection.pragma_update(None, "query_only", true).map_err(doing())?;
        let mut statement = connection.prepare(&only.text).map_err(doing())?;
        let reads = ["SELECT", "WITH", "VALUES", "EXPLAIN"];
        let first = leading_words(Engine::Sqlite, &only.text, 1).pop().unwrap_or_default();
        if !statement.readonly() || !reads.contains(&first.as_str()) {
            return Err(refused("a statement that is no question"));
        }
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(doing())?;
        let mut answer = Vec::new();
        while let Some(row) = rows.next().map_err(doing())? {
            if answer.len() == QUERY_ROWS_MAX {
                return Err(refused("an answer of more than 10,000 rows"));
            }
            let values = (0..columns).map(|at| Ok(text(row.get_ref(at)?)));
            answer.push(values.collect::<Result<_, _>>().map_err(doing())?);
        }
        Ok(answer)
    }
}

/// A value as the sqlite3 program shows it; bytes that are no text as hexadecimal digits.
fn text(value: rusqlite::types::ValueRef<'_>) -> Option<String> {
    use rusqlite::types::ValueRef;
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}
