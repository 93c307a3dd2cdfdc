//! Why a backup was not made, or could not be read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustic_core::RusticError;

/// Paths that are named in an error; the rest is counted.
const NAMED_MAX: usize = 20;

/// Why a backup was not made, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No room on the disk of the repository.
    #[error(
        "no room left for the backup at {}: nothing of it counts, earlier backups are whole; \
         make room, or keep fewer backups",
        path.display()
    )]
    Full {
        /// The file that could not be written.
        path: PathBuf,
    },
    /// There is no repository.
    #[error("there is no backup repository at {}: `entracte backup now` makes one", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The repository is there, its password is not.
    #[error(
        "the password file {} is missing, and the backups in {} cannot be read without it: \
         put the file back from its copy (a new password opens only a new repository)",
        password_file.display(), repository.display()
    )]
    PasswordMissing {
        /// The file that is missing.
        password_file: PathBuf,
        /// The repository that needs it.
        repository: PathBuf,
    },
    /// The password file cannot be used.
    #[error("the password file {} {problem}", password_file.display())]
    PasswordFile {
        /// The file.
        password_file: PathBuf,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// The password is another one.
    #[error(
        "the password in {} does not open the repository {}: put the right file there",
        password_file.display(), repository.display()
    )]
    WrongPassword {
        /// The file with the wrong password.
        password_file: PathBuf,
        /// The repository that refused it.
        repository: PathBuf,
    },
    /// Somebody else works on the repository.
    #[error("the backup repository is busy: {who}; try again when that has ended")]
    Busy {
        /// Who, as far as it is known.
        who: String,
    },
    /// Asked to stop.
    #[error("stopped as asked; no backup was made")]
    Stopped,
    /// Files of the tree could not be read, or changed all the time.
    #[error("{0}")]
    Unreadable(Unreadable),
    /// What produces the dump failed.
    #[error("the dump of {name} failed, and no backup was made: {reason}")]
    Producer {
        /// What was to be dumped.
        name: String,
        /// What its producer said.
        reason: String,
    },
    /// What was stored is not what was to be stored.
    #[error("the backup does not hold what was to be stored, and was not kept: {what}")]
    Differs {
        /// What differs, with what was expected and what was found.
        what: String,
    },
    /// No such snapshot, or more than one.
    #[error("{found} snapshots have an id that begins with {id:?}; exactly one is expected")]
    NoSuchSnapshot {
        /// What was asked for.
        id: String,
        /// How many there are.
        found: usize,
    },
    /// A snapshot of the other kind.
    #[error("the snapshot {id} holds {found}, and {expected} is expected")]
    WrongKind {
        /// The snapshot.
        id: String,
        /// What it holds.
        found: &'static str,
        /// What was asked for.
        expected: &'static str,
    },
    /// The folder to restore into is not empty.
    #[error("{} is not empty: restoring needs an empty folder, or one that does not exist", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A snapshot with a name in it that would leave the folder it is restored into.
    #[error("the snapshot holds the name {name:?}, which cannot be restored safely")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// The repository has faults.
    #[error("the backup repository {} has faults: {}", path.display(), faults.join("; "))]
    Faults {
        /// Which one.
        path: PathBuf,
        /// What was found.
        faults: Vec<String>,
    },
    /// A value that cannot be stored as a tag.
    #[error("the tag {key} cannot be {value:?}: a text of one line is expected")]
    BadTag {
        /// Which tag.
        key: &'static str,
        /// What it was to be.
        value: String,
    },
    /// The repository's format refused; what it said stands behind it.
    #[error("cannot {doing} {}: {said}", path.display())]
    Format {
        /// What was tried.
        doing: &'static str,
        /// In which repository.
        path: PathBuf,
        /// What was said.
        said: String,
    },
}

/// The parts of a tree that could not be stored.
#[derive(Debug, Clone, Default)]
pub struct Unreadable {
    /// The first of them, with the reason.
    pub named: Vec<(PathBuf, String)>,
    /// How many there are in all.
    pub total: usize,
}

impl Unreadable {
    /// Adds one more.
    pub(crate) fn add(&mut self, path: &Path, reason: String) {
        self.total += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push((path.to_owned(), reason));
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no backup was made, because {} could not be read:", self.total)?;
        for (path, reason) in &self.named {
            write!(f, "\n  {}: {reason}", path.display())?;
        }
        if self.total > self.named.len() {
            write!(f, "\n  and {} more", self.total - self.named.len())?;
        }
        write!(
            f,
            "\nmake them readable for this user, or name the folder under `volatile` of the target"
        )
    }
}

impl BackupError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::Full { path: path.to_owned() };
        }
        Self::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn format(doing: &'static str, path: &Path, error: &RusticError) -> Self {
        Self::Format { doing, path: path.to_owned(), said: one_line(error) }
    }
}

/// Whether there is no room: on the disk, in the quota, or for another file.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// What the library says, without its decoration for terminals.
pub(crate) fn one_line(error: &RusticError) -> String {
    let mut said = error.display_log();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}
