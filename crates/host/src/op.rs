//! The closed set of operations that can travel to a target machine, and their replies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::HostError;
use crate::facts::Facts;
use crate::hook::HookDone;

/// One operation. There is no other way to change a target machine's trees.
///
/// Operations are recorded in the journal and shown to people: they never carry a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Op {
    /// What the machine has: room, file systems, clock. Changes nothing.
    Facts {
        /// The places that are asked about. They need not exist: the nearest folder above answers.
        paths: Vec<PathBuf>,
    },
    /// Exchanges two real folders atomically. Not idempotent: a second one exchanges back, so
    /// after a crash ask for [`Op::Facts`] of both first and compare the inodes.
    Exchange {
        /// One folder.
        a: PathBuf,
        /// The other folder, on the same file system.
        b: PathBuf,
    },
    /// Points the symbolic link at a folder, atomically. Idempotent.
    PointLink {
        /// The link: it is created, or replaced if it is one.
        link: PathBuf,
        /// What it shall hold: a folder, absolute or seen from the link's own folder.
        to: PathBuf,
    },
    /// Runs a command of the configuration (`sh -c`) in a process group of its own.
    Hook {
        /// What people call it: `reload`, `workers-stop`.
        name: String,
        /// The command, given to `sh -c`.
        command: String,
        /// The folder to run it in.
        dir: PathBuf,
        /// The longest it may take, in milliseconds; then its whole group is killed.
        timeout_ms: u64,
        /// Added to the environment. Never secrets.
        env: BTreeMap<String, String>,
    },
    /// Removes a tree that is ours (see [`crate::tree`]). Idempotent.
    RemoveTree {
        /// The tree.
        path: PathBuf,
        /// The marker beside it that proves it ours: [`crate::tree::marker_of`].
        marker: PathBuf,
    },
}

/// What an operation gives back. Its variant always matches that of the [`Op`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// To [`Op::Facts`].
    Facts {
        /// What was found.
        facts: Facts,
    },
    /// To [`Op::Exchange`].
    Exchanged {
        /// The folder that stands at `a` now.
        a: Identity,
        /// The folder that stands at `b` now.
        b: Identity,
    },
    /// To [`Op::PointLink`].
    Linked {
        /// What the link held before; none where there was no link.
        previous: Option<PathBuf>,
    },
    /// To [`Op::Hook`]: it ended with exit code 0. Any other end is an error.
    Hook {
        /// How it went.
        done: HookDone,
    },
    /// To [`Op::RemoveTree`].
    Removed {
        /// False where there was nothing (any more) to remove.
        existed: bool,
    },
}

/// What tells one folder from another, whatever they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The file system (`st_dev`).
    pub device: u64,
    /// The folder in it (`st_ino`).
    pub inode: u64,
}

/// How far an operation has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 where that is not known.
    pub total: u64,
    /// What is counted: `bytes`, `lines`, `steps`.
    pub unit: String,
    /// What is being done, in one line.
    pub note: String,
}

/// A machine that carries out operations: this one, or one at the end of a connection.
pub trait Host {
    /// Carries out `op` and waits for its end; `say` hears about its progress meanwhile.
    ///
    /// # Errors
    /// Why it was refused or failed. A refusal changed nothing; after a failure, ask the machine.
    fn call(&mut self, op: &Op, say: &mut dyn FnMut(Progress)) -> Result<Reply, HostError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_keep_their_written_form() {
        let op = Op::Hook {
            name: "reload".into(),
            command: "systemctl reload php8.2-fpm".into(),
            dir: "/srv/game".into(),
            timeout_ms: 10_000,
            env: BTreeMap::from([("ENTRACTE_VERSION".to_owned(), "1.1.0".to_owned())]),
        };
        let text = serde_json::to_string(&op).unwrap();
        assert_eq!(
            text,
            r#"{"op":"hook","name":"reload","command":"systemctl reload php8.2-fpm","dir":"/srv/game","timeout_ms":10000,"env":{"ENTRACTE_VERSION":"1.1.0"}}"#
        );
        assert_eq!(serde_json::from_str::<Op>(&text).unwrap(), op);
    }

    #[test]
    fn an_unknown_field_is_refused_rather_than_ignored() {
        let text = r#"{"op":"exchange","a":"/a","b":"/b","force":true}"#;
        assert!(serde_json::from_str::<Op>(text).is_err());
    }

    #[test]
    fn an_error_survives_the_way_back() {
        let error = HostError::io(
            "rename",
            std::path::Path::new("/srv/game"),
            &std::io::Error::from_raw_os_error(28),
        );
        let text = serde_json::to_string(&error).unwrap();
        let back: HostError = serde_json::from_str(&text).unwrap();
        assert_eq!(back.errno(), Some(28));
        assert_eq!(back, error);
    }
}
