//! What can go wrong with the gate of a team.

use std::io;
use std::path::PathBuf;

use entracte_model::gate::Refused;

use super::Kind;
use crate::control::ControlError;
use crate::error::GateError;

/// Why a gate could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Our own gate.
    #[error(transparent)]
    Own(#[from] ControlError),
    /// The goal was not accepted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A file of the gate.
    #[error(transparent)]
    File(#[from] GateError),
    /// The server has no such thing.
    #[error("{kind} cannot {what}; {instead}")]
    Cannot {
        /// The server.
        kind: Kind,
        /// What it cannot do.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The server does not take its configuration. The files are as they were, and so is the gate.
    #[error(
        "{kind} does not take the configuration, nothing was changed; `{command}` says: {said}"
    )]
    Test {
        /// The server.
        kind: Kind,
        /// What was run.
        command: String,
        /// The end of what it said.
        said: String,
    },
    /// The server was not reloaded.
    #[error("{kind} was not reloaded: `{command}` {said}")]
    Reload {
        /// The server.
        kind: Kind,
        /// What was run.
        command: String,
        /// How it ended, and the end of what it said.
        said: String,
    },
    /// The server says something else than what it was told.
    #[error(
        "{kind} does not do what it was told: {url} should answer {expected}, it answers {found}; is \
         what `entracte gate snippet` prints in its configuration, and can it read {folder}?"
    )]
    NotInForce {
        /// The server.
        kind: Kind,
        /// What was asked for, through the server.
        url: String,
        /// What should have come.
        expected: String,
        /// What came.
        found: String,
        /// Where the files lie that it reads.
        folder: PathBuf,
    },
    /// Nobody answers at the admin interface.
    #[error(
        "{kind} does not answer at its admin interface {at}; is it running, and is `gate.admin` right?"
    )]
    Admin {
        /// The server.
        kind: Kind,
        /// Where it was asked.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// The admin interface answers something else.
    #[error("{kind} was asked for {asked} at {at}, expected {expected}, found {found:?}")]
    AdminSaid {
        /// The server.
        kind: Kind,
        /// Where it was asked.
        at: String,
        /// What was asked.
        asked: String,
        /// What should have come.
        expected: &'static str,
        /// What came, shortened.
        found: String,
    },
    /// The written state cannot be understood.
    #[error(
        "{path} cannot be understood ({problem}), so nobody knows what the gate was asked last; look \
         whether the game is open, remove that file and the front.json beside it, and `entracte gate open` or \
         `close`"
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}
