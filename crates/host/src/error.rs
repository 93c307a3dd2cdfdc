//! Why an operation was refused or failed, in a form that can travel back from another machine.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hook::HookDone;

/// Why an operation was refused or failed.
///
/// Everything in it is plain data: an error that came over a connection can be told apart and
/// shown exactly as a local one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "kebab-case")]
pub enum HostError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `rename`.
        doing: String,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        cause: Cause,
    },
    /// Something else than a real folder where one is needed.
    #[error(
        "{} is {found}, and a real folder is expected: {hint}", path.display()
    )]
    NotAFolder {
        /// The path that was looked at.
        path: PathBuf,
        /// What it is instead.
        found: String,
        /// What to do.
        hint: String,
    },
    /// The two trees lie on different file systems.
    #[error(
        "{} and {} lie on different file systems, and an exchange is possible within one only: \
         put the folder of staged releases on the file system of the game (`staging`), \
         or use `layout = \"symlink\"`",
        a.display(), b.display()
    )]
    OtherFileSystem {
        /// One tree.
        a: PathBuf,
        /// The other one.
        b: PathBuf,
    },
    /// The file system has no atomic exchange.
    #[error(
        "the file system of {} cannot exchange two folders atomically (renameat2 with \
         RENAME_EXCHANGE): use `layout = \"symlink\"`",
        path.display()
    )]
    NoExchange {
        /// One of the two trees.
        path: PathBuf,
    },
    /// A folder is a mount point, or has one inside, where that would be lost or emptied.
    #[error(
        "{} is a mount point: unmount it, or move the mount out of {}",
        mount.display(), path.display()
    )]
    MountPoint {
        /// The tree that was to be changed.
        path: PathBuf,
        /// The mount point that is this tree or lies in it.
        mount: PathBuf,
    },
    /// One tree lies inside the other.
    #[error("{} lies inside {}: two separate folders are expected", inner.display(), outer.display())]
    Nested {
        /// The inner one.
        inner: PathBuf,
        /// The outer one.
        outer: PathBuf,
    },
    /// Something that is no link stands where the link would be put.
    #[error(
        "{} is {found}, and only a symbolic link (or nothing) is replaced by `layout = \"symlink\"`: \
         move it away by hand if it is not needed",
        link.display()
    )]
    NotALink {
        /// Where the link should be.
        link: PathBuf,
        /// What stands there.
        found: String,
    },
    /// A hook ended badly.
    #[error("{0}")]
    Hook(Box<HookFailure>),
    /// A tree without our marker was to be removed.
    #[error(
        "{} is not removed: {} is missing or does not name it, so it may not be ours",
        path.display(), marker.display()
    )]
    NotOurs {
        /// The tree.
        path: PathBuf,
        /// The marker that was looked for.
        marker: PathBuf,
    },
    /// A path that no operation accepts.
    #[error("{} cannot be used: an absolute path that ends in a name is expected", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
    },
}

/// What the operating system said: kept with its number, so that a full disk stays a full disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The error number (`errno`), where there was one.
    pub errno: Option<i32>,
    /// Its text.
    pub text: String,
}

/// A hook that ended badly, with the end of its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookFailure {
    /// Which hook.
    pub name: String,
    /// How it ended, and what it said.
    pub done: HookDone,
}

/// Lines of a hook's output that are shown in its error.
const SHOWN_LINES_MAX: usize = 20;

impl fmt::Display for HookFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hook {:?} {}", self.name, self.done.ending)?;
        let said = self.done.output.trim_end();
        if said.is_empty() {
            return write!(f, " (it printed nothing)");
        }
        let lines: Vec<&str> = said.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..];
        write!(f, ". The end of its output:")?;
        for line in shown {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), text: error.to_string() }
    }
}

impl HostError {
    /// An error of the operating system, with what was tried on which path.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Io { doing: doing.to_owned(), path: path.to_owned(), cause: Cause::from(error) }
    }

    /// The number that the operating system gave (`errno`), if it was the one that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { cause, .. } => cause.errno,
            Self::NotAFolder { .. }
            | Self::OtherFileSystem { .. }
            | Self::NoExchange { .. }
            | Self::MountPoint { .. }
            | Self::Nested { .. }
            | Self::NotALink { .. }
            | Self::Hook(_)
            | Self::NotOurs { .. }
            | Self::BadPath { .. } => None,
        }
    }
}

/// Adds to an [`io::Result`] what was tried on which path.
pub(crate) trait Doing<T> {
    /// The same result, its error saying that `verb` failed on `path`.
    fn doing(self, verb: &str, path: &Path) -> Result<T, HostError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, verb: &str, path: &Path) -> Result<T, HostError> {
        self.map_err(|error| HostError::io(verb, path, &error))
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, verb: &str, path: &Path) -> Result<T, HostError> {
        self.map_err(|errno| HostError::io(verb, path, &errno.into()))
    }
}

/// What something is, in words: `a symbolic link`, `missing`.
pub(crate) fn kind_in_words(path: &Path) -> Result<&'static str, HostError> {
    use std::os::unix::fs::FileTypeExt;
    let kind = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok("missing"),
        Err(error) => return Err(HostError::io("look at", path, &error)),
    };
    Ok(match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_file() => "a file",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    })
}
