//! The one error type of this crate, and how an I/O error gets its place.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::BadArchive;
use crate::git::GitError;
use crate::keys::KeyError;
use crate::pack::PackFault;
use crate::persist::PersistFault;
use crate::scan::Refused;
use crate::scripts::ScriptFault;
use crate::stage::StageFault;
use crate::thin::BadThin;

/// Why something about a package could not be done. The cause behind it is its `source()`.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The operating system refused something.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was being done, as in "could not … this path".
        doing: &'static str,
        /// The path it was done to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tree holds what cannot be packed.
    #[error("{}", crate::scan::list(.0))]
    Refused(Vec<Refused>),
    /// An ignore file that cannot be read as one.
    #[error("{} is not a valid ignore file; correct the pattern that the cause names", path.display())]
    IgnoreFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ignore::Error,
    },
    /// Git could not be asked.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A key or a signature is not good.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database scripts have no clear order.
    #[error(transparent)]
    Script(#[from] ScriptFault),
    /// The package cannot be made.
    #[error(transparent)]
    Pack(#[from] PackFault),
    /// The package cannot be believed.
    #[error(transparent)]
    Archive(#[from] BadArchive),
    /// What travels cannot be believed.
    #[error(transparent)]
    Thin(#[from] BadThin),
    /// The tree cannot be staged.
    #[error(transparent)]
    Stage(#[from] StageFault),
    /// A persistent path cannot be moved out of the tree.
    #[error(transparent)]
    Persist(#[from] PersistFault),
    /// It was asked to stop, and did.
    #[error("stopped as asked; nothing half-done is in use")]
    Stopped,
}

/// Puts the doing and the place to an I/O error.
pub(crate) trait At<T> {
    /// `doing` reads as in "could not `doing` `path`".
    fn at(self, doing: &'static str, path: &Path) -> Result<T, PackageError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, PackageError> {
        self.map_err(|source| PackageError::Io {
            doing,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}
