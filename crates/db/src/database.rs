//! The one interface to every kind of database.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use entracte_model::schema::Schema;
use entracte_model::way::{Offer, Wish};
use serde::{Deserialize, Serialize};

use crate::contents::Contents;
use crate::error::DbError;
use crate::facts::{Facts, Sums};
use crate::point::Point;
pub use crate::script::Script;

/// A database that a release works on. One value belongs to one thread at a time.
///
/// Everything that is remembered lies in the database, in a point's directory or in the values
/// that are handed back, so that another process can go on after a crash of this one.
pub trait Database: Send {
    /// What the database is and what should be known about it before a release.
    fn facts(&mut self) -> Result<Facts, DbError>;

    /// The definition of every object, without what differs between two servers by nature
    /// (next auto-increment value, definer, start of an event, comments and spacing in bodies).
    fn schema(&mut self) -> Result<Schema, DbError>;

    /// Row count, checksum and next auto-increment value of every table, and a hash of the
    /// schema: equal before and after means that nothing was lost.
    fn sums(&mut self) -> Result<Sums, DbError>;

    /// What [`Database::fence`] is about to change, to be made durable before it is called:
    /// [`Database::unfence`] takes it in place of a proof after a crash in the middle.
    fn fence_intent(&mut self) -> Result<FenceProof, DbError>;

    /// Makes sure that nobody else writes, and proves it. Waits up to `patience` for open
    /// transactions of others; `say` hears whom it waits for. Idempotent.
    ///
    /// # Errors
    /// [`DbError::StillWriting`] names who still writes and what to configure. What was locked
    /// by then stays locked: the caller calls [`Database::unfence`].
    fn fence(
        &mut self,
        patience: Duration,
        say: &mut dyn FnMut(&str),
    ) -> Result<FenceProof, DbError>;

    /// Lets the game in again. Idempotent; works from another process. Without the proof the
    /// configured game accounts are unlocked, and the event scheduler is left as it is.
    fn unfence(&mut self, proof: Option<&FenceProof>) -> Result<(), DbError>;

    /// Which way to a rollback point is wished for, from now on.
    fn wish_for(&mut self, wish: Wish);

    /// Every way to a rollback point in `dir` that the engine knows, with what it would have to
    /// move, and why it is not open where it is not. Changes nothing.
    fn ways(&mut self, dir: &Path) -> Result<Vec<Offer>, DbError>;

    /// Does ahead of the closing, while the game runs, what makes the exact point of
    /// [`Database::take_point`] in the same `dir` take less time, where the engine allows that.
    /// Locks nothing and changes nothing in the database; can be repeated, to be nearer. The
    /// bytes that were copied; none where the point cannot be prepared.
    fn prepare_point(
        &mut self,
        _dir: &Path,
        _progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<u64>, DbError> {
        Ok(None)
    }

    /// Takes the exact rollback point into `dir`, which is created here (an incomplete point
    /// left in it by a crash is replaced). Complete when its `point.json` is there.
    fn take_point(
        &mut self,
        dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Point, DbError>;

    /// The point in `dir` where a complete one is there.
    fn probe_point(&mut self, dir: &Path) -> Result<Option<Point>, DbError>;

    /// Brings the database back to the point, exactly. Can be repeated after a crash in its
    /// middle.
    fn restore_point(
        &mut self,
        point: &Point,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError>;

    /// Removes the point's directory. Idempotent.
    fn drop_point(&mut self, point: &Point) -> Result<(), DbError>;

    /// Executes the scripts in the given order, statement by statement, each announced to `log`
    /// before and reported to it afterwards. `stop` is honoured between statements and ends the
    /// one that is running.
    fn run_scripts(
        &mut self,
        scripts: &[Script],
        log: &mut dyn StatementLog,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ScriptsDone, DbError>;

    /// Ends connections that a crashed run left behind (an ALTER goes on after its client died)
    /// and waits until they are gone.
    ///
    /// # Errors
    /// [`DbError::StillRunning`] when one is not gone after `patience`.
    fn end_orphans(&mut self, connection_ids: &[u64], patience: Duration) -> Result<(), DbError>;

    /// Writes a consistent dump of everything; the number of bytes written.
    fn dump(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, DbError>;

    /// As [`Database::dump`], and says what the dump holds, to be compared with what comes back
    /// from it.
    fn dump_with_contents(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(u64, Contents), DbError>;

    /// Replaces everything in the configured database with a dump made by [`Database::dump`].
    fn load(
        &mut self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError>;

    /// The rows of one reading statement, as text (`None` is NULL). Writing is refused by the
    /// engine; at most [`QUERY_ROWS_MAX`] rows.
    fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, DbError>;
}

/// The most rows that [`Database::query`] hands back; more are an error, not a cut.
pub const QUERY_ROWS_MAX: usize = 10_000;

/// Which statement of which script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementAt {
    /// The script's name.
    pub script: String,
    /// The number of the statement in its script, from 1.
    pub number: u64,
    /// The line in which it begins, from 1.
    pub line: u64,
    /// The byte of the script at which it begins, from 0.
    pub offset: u64,
    /// Its beginning on one line, at most [`SQL_EXCERPT_CHARS_MAX`] characters.
    pub sql: String,
    /// The server's number of the connection that executes it, where there is a server.
    pub connection_id: Option<u64>,
}

/// The length of a statement's excerpt in the journal and in errors.
pub const SQL_EXCERPT_CHARS_MAX: usize = 200;

/// The journal of executed statements. Each call survives the death of this process before it
/// returns, and the first intent of a connection a power cut; an error stops the scripts.
pub trait StatementLog {
    /// The statement is about to be executed.
    fn intent(&mut self, at: &StatementAt) -> Result<(), String>;
    /// It was executed.
    fn done(&mut self, at: &StatementAt, rows: u64, warnings: &[String]) -> Result<(), String>;
    /// It failed.
    fn failed(&mut self, at: &StatementAt, error: &str) -> Result<(), String>;
}

/// A journal that keeps nothing: for databases that are thrown away, and statements of our own.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl StatementLog for Nowhere {
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

/// What executing the scripts came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScriptsDone {
    /// Each script, in the order of execution.
    pub scripts: Vec<ScriptDone>,
    /// All of it was one transaction: either everything is there or nothing.
    pub one_transaction: bool,
}

/// What executing one script came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptDone {
    /// The script's name.
    pub name: String,
    /// How many statements it had.
    pub statements: u64,
    /// How many rows they changed in all, as the engine counts.
    pub rows: u64,
    /// What the engine warned of, each with its line.
    pub warnings: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
}

/// How far a long operation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is, in `unit`; an estimate that `done` may pass where it is a dump.
    pub total: u64,
    /// `bytes`, `statements` or `tables`.
    pub unit: &'static str,
    /// What is being worked on.
    pub note: String,
}

/// The evidence that nobody else writes, and what has to be put back afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FenceProof {
    /// Accounts that were locked (or are about to be), as `user@host`.
    pub locked: Vec<String>,
    /// The event scheduler was switched off (or is about to be) and is to be switched on again.
    pub event_scheduler_off: bool,
    /// What was read twice and was equal (counters, positions), by name. Empty in an intent.
    pub evidence: Vec<(String, String)>,
    /// How many sessions were ended.
    pub sessions_ended: u64,
    /// What could not be made sure, and why.
    pub notes: Vec<String>,
}
