//! What can go wrong with a database, said so that a person knows what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::script::ScriptError;

/// What the database engine itself said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// The engine's own error number, where it gave one.
    pub code: Option<i64>,
    /// Its words.
    pub message: String,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "error {code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<rusqlite::Error> for EngineError {
    fn from(error: rusqlite::Error) -> Self {
        let code = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => Some(i64::from(failure.extended_code)),
            rusqlite::Error::SqlInputError { error, .. } => Some(i64::from(error.extended_code)),
            _ => None,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<mysql::Error> for EngineError {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(said) => Self {
                code: Some(i64::from(said.code)),
                message: format!("({}) {}", said.state, said.message),
            },
            other => Self { code: None, message: other.to_string() },
        }
    }
}

/// Somebody who is at work on the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The server's number of the connection, or the process id where the database is a file.
    pub id: u64,
    /// The account, or the program's name where the database is a file.
    pub user: String,
    /// Where it comes from.
    pub host: String,
    /// What it is doing: the command, and the beginning of the statement where it can be seen.
    pub doing: String,
    /// For how long, in seconds, where that can be seen.
    pub since_s: Option<u64>,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} (number {}): {}", self.user, self.host, self.id, self.doing)?;
        match self.since_s {
            Some(seconds) => write!(f, ", for {seconds} s"),
            None => Ok(()),
        }
    }
}

/// A database operation that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database cannot be entered.
    #[error("cannot enter the database {target}")]
    Unreachable {
        /// Which one, without any password.
        target: String,
        /// Why.
        source: EngineError,
    },
    /// The engine refused something that we asked for.
    #[error("the database refused while {doing}")]
    Engine {
        /// What we were doing.
        doing: String,
        /// What it said.
        source: EngineError,
    },
    /// A file or directory could not be worked on.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb (`copy`, `sync`).
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A script cannot be read as a list of statements. Nothing of any script was executed.
    #[error("{script} cannot be run")]
    Script {
        /// The script's name.
        script: String,
        /// Where and why.
        source: ScriptError,
    },
    /// A script holds a statement that we do not execute. Nothing of any script was executed.
    #[error("{script}, line {line}: {what}; {hint}")]
    Refused {
        /// The script's name (or `query`).
        script: String,
        /// The line in which the statement begins, from 1.
        line: u64,
        /// What was found.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A statement of a script failed.
    #[error("{script}, line {line}: statement {number} failed: {sql}")]
    Statement {
        /// The script's name.
        script: String,
        /// The line in which the statement begins, from 1.
        line: u64,
        /// The number of the statement in its script, from 1.
        number: u64,
        /// The statement's beginning, on one line.
        sql: String,
        /// What the engine said.
        source: EngineError,
    },
    /// A script ended in the middle of a transaction, whose changes would be lost.
    #[error("{script} leaves a transaction open; its changes would be lost: end it with COMMIT")]
    OpenTransaction {
        /// The script's name.
        script: String,
    },
    /// After the scripts, rows point to rows that do not exist.
    #[error("the scripts leave {} broken foreign keys, the first: {}", violations.len(), violations.first().map_or("", String::as_str))]
    ForeignKeys {
        /// Each violation in words (at most 100).
        violations: Vec<String>,
    },
    /// The work was stopped because the caller asked for it.
    #[error("stopped as asked, in {script} at line {line}")]
    Stopped {
        /// The script that was at work or was next.
        script: String,
        /// The line of the statement that was ended or was next.
        line: u64,
    },
    /// The statement journal could not be written, so nothing further was executed.
    #[error("the statement journal could not be written: {said}")]
    Log {
        /// What the journal said.
        said: String,
    },
    /// Somebody still writes, so no exact point can be taken.
    #[error("somebody still writes: {}; {hint}", list(sessions))]
    StillWriting {
        /// Who, as far as our rights let us see it.
        sessions: Vec<Session>,
        /// What to add to the configuration.
        hint: String,
    },
    /// A connection that was ended is still at work (an ALTER being undone).
    #[error(
        "still at work after {waited_s} s although ended: {}; wait and try again",
        list(sessions)
    )]
    StillRunning {
        /// The connections.
        sessions: Vec<Session>,
        /// How long it was waited for.
        waited_s: u64,
    },
    /// The account lacks a right without which the result would not be exact.
    #[error("the account lacks {missing}, needed to {needed_to}; {hint}")]
    Privilege {
        /// The right, in the server's words.
        missing: String,
        /// What it is needed for.
        needed_to: String,
        /// What to do.
        hint: String,
    },
    /// A program of the database's distribution is missing, failed, or said something unexpected.
    #[error("{tool}: {found}; expected {expected}")]
    Tool {
        /// The program.
        tool: String,
        /// What it should have done.
        expected: String,
        /// What it did, with the last of its error output.
        found: String,
    },
    /// A dump that does not end as a complete one does.
    #[error("the dump is not complete: expected {expected} at its end, found {found:?}")]
    TruncatedDump {
        /// The end of a complete dump.
        expected: String,
        /// The end that was found (at most 80 characters).
        found: String,
    },
    /// A rollback point that cannot be used.
    #[error("{} is not a usable rollback point: expected {expected}, found {found}", dir.display())]
    BadPoint {
        /// Its directory.
        dir: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Something about the database that we cannot deal with exactly.
    #[error("{what}; {hint}")]
    Unsupported {
        /// What it is.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The stream that a dump is written to or read from failed.
    #[error("the dump's stream failed")]
    Stream(#[source] io::Error),
}

impl DbError {
    /// For `map_err` on an engine's answer: what we were doing.
    pub(crate) fn engine<E: Into<EngineError>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |error| DbError::Engine { doing, source: error.into() }
    }

    /// For `map_err` on a file operation: the verb and the path.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| DbError::Io { doing, path, source }
    }
}

fn list(sessions: &[Session]) -> String {
    const SHOWN_MAX: usize = 5;
    if sessions.is_empty() {
        return "nobody that our rights let us see".to_owned();
    }
    let mut text: Vec<String> = sessions.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if sessions.len() > SHOWN_MAX {
        text.push(format!("and {} more", sessions.len() - SHOWN_MAX));
    }
    text.join("; ")
}
