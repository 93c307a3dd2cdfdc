//! Paths that belong to no version (`config.php`, `uploads`): they live in a shared folder, and
//! every version holds a link to them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use entracte_model::RelPath;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::PackageError;
use crate::error::At;
use crate::files::sync_dir;

/// What became of the persistent paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adopted {
    /// Moved to the shared folder now.
    pub moved: Vec<RelPath>,
    /// There since an earlier run.
    pub already: Vec<RelPath>,
    /// Neither in the live tree nor in the shared folder.
    pub missing: Vec<RelPath>,
}

/// Why a persistent path cannot be moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PersistFault {
    /// Both the tree and the shared folder have one.
    #[error("{} and {} both exist; keep the right one and move the other away", live.display(), shared.display())]
    Both {
        /// In the tree.
        live: PathBuf,
        /// In the shared folder.
        shared: PathBuf,
    },
    /// A link that would lead elsewhere from the shared folder.
    #[error("{} is a link to {target:?}, which would lead elsewhere once it is moved; make the link absolute, or move what it leads to into its place", live.display())]
    RelativeLink {
        /// The link in the tree.
        live: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// The shared folder is on another file system.
    #[error("{} cannot be moved to {}, which is on another file system; put the shared folder on the same one", live.display(), shared.display())]
    OtherFileSystem {
        /// In the tree.
        live: PathBuf,
        /// In the shared folder.
        shared: PathBuf,
    },
}

/// Moves each persistent path of the live tree into `shared` and leaves a link in its place.
///
/// A link to the shared place is put there first, then both are exchanged at once: the game sees
/// the old thing or the link to it, never nothing. Where the file system cannot exchange, there is
/// an instant without it. A crash can cost a link in `shared` that leads to itself, or (without
/// exchange) the missing link; running it again mends both.
pub fn adopt(live: &Path, shared: &Path, persist: &[RelPath]) -> Result<Adopted, PackageError> {
    fs::create_dir_all(shared).at("create the folder", shared)?;
    let shared = shared.canonicalize().at("find", shared)?;
    let mut adopted = Adopted::default();
    for path in persist {
        let (from, to) = (live.join(path), shared.join(path));
        let list = match (state(&from, &to)?, state(&to, &to)?) {
            (State::Link, State::Real) => &mut adopted.already,
            (State::Real, State::Real) => {
                return Err(PersistFault::Both { live: from, shared: to }.into());
            }
            (State::Real, State::Nothing | State::Link) => {
                exchange(&from, &to)?;
                &mut adopted.moved
            }
            (State::Nothing, State::Real) if from.parent().is_some_and(Path::is_dir) => {
                std::os::unix::fs::symlink(&to, &from).at("create the link", &from)?;
                sync_around(&from)?;
                &mut adopted.already
            }
            // The tree has no such folder (yet): the next version is linked when it is staged.
            (State::Nothing, State::Real) => &mut adopted.already,
            (State::Nothing | State::Link, State::Nothing | State::Link) => &mut adopted.missing,
        };
        list.push(path.clone());
    }
    Ok(adopted)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    /// A link to the shared place.
    Link,
    Real,
}

fn state(path: &Path, shared: &Path) -> Result<State, PackageError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() && fs::read_link(path).is_ok_and(|to| to == shared) => {
            Ok(State::Link)
        }
        Ok(_) => Ok(State::Real),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(State::Nothing)
        }
        Err(error) => Err(error).at("look at", path),
    }
}

fn exchange(from: &Path, to: &Path) -> Result<(), PackageError> {
    if let Ok(target) = fs::read_link(from)
        && target.is_relative()
    {
        return Err(PersistFault::RelativeLink { live: from.to_owned(), target }.into());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).at("create the folder", parent)?;
    }
    if fs::symlink_metadata(to).is_err() {
        std::os::unix::fs::symlink(to, to).at("create the link", to)?;
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS) => {
            // This file system cannot exchange two names.
            if fs::symlink_metadata(from).at("look at", from)?.is_dir() {
                fs::remove_file(to).at("remove", to)?;
            }
            fs::rename(from, to).at("move", from)?;
            std::os::unix::fs::symlink(to, from).at("create the link", from)?;
        }
        Err(Errno::XDEV) => {
            fs::remove_file(to).at("remove", to)?;
            let (live, shared) = (from.to_owned(), to.to_owned());
            return Err(PersistFault::OtherFileSystem { live, shared }.into());
        }
        Err(error) => return Err(error).at("exchange", from),
    }
    sync_around(to)?;
    sync_around(from)
}

fn sync_around(path: &Path) -> Result<(), PackageError> {
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    fn game() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (live, shared) = (dir.path().join("live"), dir.path().join("shared"));
        fs::create_dir_all(live.join("data/uploads")).unwrap();
        fs::write(live.join("data/uploads/a.png"), "png").unwrap();
        fs::write(live.join("config.php"), "secret").unwrap();
        (dir, live, shared)
    }

    #[test]
    fn paths_are_moved_once_and_stay_readable_where_they_were() {
        let (_dir, live, shared) = game();
        let persist = [rel("config.php"), rel("data/uploads"), rel("cache")];
        let first = adopt(&live, &shared, &persist).unwrap();
        assert_eq!(first.moved, persist[..2]);
        assert_eq!(first.missing, persist[2..]);
        assert_eq!(fs::read_to_string(live.join("config.php")).unwrap(), "secret");
        assert_eq!(fs::read_to_string(live.join("data/uploads/a.png")).unwrap(), "png");
        assert!(fs::symlink_metadata(live.join("data/uploads")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(shared.join("data/uploads")).unwrap().is_dir());
        let second = adopt(&live, &shared, &persist).unwrap();
        assert_eq!(second.already, persist[..2]);
        assert!(second.moved.is_empty());
    }

    #[test]
    fn a_run_that_was_cut_off_at_any_point_is_finished_by_the_next() {
        let persist = [rel("config.php")];
        let (_dir, live, shared) = game();
        fs::create_dir(&shared).unwrap();
        let to = shared.canonicalize().unwrap().join("config.php");
        // Before the exchange: the link is there and leads to itself.
        std::os::unix::fs::symlink(&to, &to).unwrap();
        assert_eq!(adopt(&live, &shared, &persist).unwrap().moved, persist);
        // Without exchange, between the move and the link.
        fs::remove_file(live.join("config.php")).unwrap();
        assert_eq!(adopt(&live, &shared, &persist).unwrap().already, persist);
        assert_eq!(fs::read_to_string(live.join("config.php")).unwrap(), "secret");
    }

    #[test]
    fn a_link_that_would_lead_elsewhere_is_not_moved() {
        let (_dir, live, shared) = game();
        std::os::unix::fs::symlink("data/uploads", live.join("up")).unwrap();
        let error = adopt(&live, &shared, &[rel("up")]).unwrap_err();
        assert!(matches!(error, PackageError::Persist(PersistFault::RelativeLink { .. })));
        assert!(live.join("up/a.png").exists());
    }

    #[test]
    fn two_copies_are_a_question_to_the_operator() {
        let (_dir, live, shared) = game();
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("config.php"), "other").unwrap();
        let error = adopt(&live, &shared, &[rel("config.php")]).unwrap_err();
        assert!(matches!(error, PackageError::Persist(PersistFault::Both { .. })));
        assert_eq!(fs::read_to_string(live.join("config.php")).unwrap(), "secret");
    }
}
