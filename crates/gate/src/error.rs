//! What can go wrong with the gate itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a gate does not run.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A value in the configuration cannot be used.
    #[error("gate.{key}: expected {expected}, found {found:?}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is allowed there.
        expected: &'static str,
        /// What stands there, shortened.
        found: String,
    },
    /// The address for players cannot be used.
    #[error(
        "cannot listen on {address}; is another server running there, or is the port below 1024?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another gate runs with this control socket or state folder.
    #[error(
        "a gate already answers there, pid {pid} ({path}); stop it first, or give this one its own paths"
    )]
    AlreadyRunning {
        /// What both want.
        path: PathBuf,
        /// The other gate, 0 if it did not write its number.
        pid: u32,
    },
    /// A file of the gate cannot be read or written.
    #[error("cannot {doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file is damaged. It is not replaced by itself: new keys turn every player away.
    #[error(
        "{path} is not a key file of this gate ({problem}); restore it, or remove it to make new keys"
    )]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate or its key cannot be used.
    #[error("{path} cannot be used for TLS: {problem}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The running gate does not hand over.
    #[error("cannot take over from the gate at {path}: {problem}")]
    TakeOver {
        /// The control socket.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] io::Error),
}

impl GateError {
    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
