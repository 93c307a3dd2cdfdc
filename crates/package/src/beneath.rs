//! A folder as a handle: everything through it lies below it, and no link is ever followed.
//!
//! The kernel guarantees it (`openat2` with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so that a
//! link that appears between a check and a use leads nowhere.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use entracte_model::RelPath;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Timestamps, Uid, fchmod, openat2, symlinkat,
};
use rustix::io::Errno;

use crate::PackageError;
use crate::error::At;

const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A folder and what lies below it.
pub(crate) struct Root {
    dir: OwnedFd,
    path: PathBuf,
    /// The last parent folder that was used: trees are walked in order, so it is mostly the next.
    last: RefCell<Option<(RelPath, OwnedFd)>>,
}

impl Root {
    /// Opens the folder at `path`. A link at `path` itself is followed: it is the operator's.
    pub(crate) fn open(path: &Path) -> Result<Self, PackageError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).at("open the folder", path)?;
        Ok(Self { dir, path: path.to_owned(), last: RefCell::new(None) })
    }

    /// The full path of `rel`, for messages.
    pub(crate) fn full(&self, rel: &RelPath) -> PathBuf {
        self.path.join(rel)
    }

    /// What stands at `rel`, a link as itself; `None` where nothing does. Links are never followed.
    pub(crate) fn stat(&self, rel: &RelPath) -> Result<Option<Stat>, PackageError> {
        let found = self.in_parent(rel, |parent, name| {
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        });
        match found {
            Ok(stat) => Ok(Some(stat)),
            // A link on the way, too: what it leads to is not at `rel`.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).at("look at", &self.full(rel)),
        }
    }

    /// Opens a file for reading; refuses to wait for a FIFO.
    pub(crate) fn read(&self, rel: &RelPath) -> Result<File, PackageError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        openat2(&self.dir, rel.as_str(), flags, Mode::empty(), INSIDE)
            .map(File::from)
            .at("open", &self.full(rel))
    }

    /// Creates a file that was not there, readable by its owner only.
    pub(crate) fn create(&self, rel: &RelPath) -> Result<File, PackageError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat2(&self.dir, rel.as_str(), flags, Mode::RUSR | Mode::WUSR, INSIDE)
            .map(File::from)
            .at("create", &self.full(rel))
    }

    /// Creates a folder that was not there, with the permission bits of `mode`.
    pub(crate) fn mkdir(&self, rel: &RelPath, mode: u32) -> Result<(), PackageError> {
        self.in_parent(rel, |parent, name| {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let dir = openat2(parent, name, flags, Mode::empty(), INSIDE)?;
            // Not by mkdir itself: the umask would take away what was asked for.
            fchmod(dir, Mode::from_raw_mode(mode))
        })
        .at("create the folder", &self.full(rel))
    }

    /// Creates the folders above `rel` where they are missing.
    pub(crate) fn mkdir_above(&self, rel: &RelPath) -> Result<(), PackageError> {
        let Some(parent) = rel.parent() else { return Ok(()) };
        if self.stat(&parent)?.is_some() {
            return Ok(());
        }
        self.mkdir_above(&parent)?;
        self.mkdir(&parent, 0o755)
    }

    /// Creates a link that was not there.
    pub(crate) fn symlink(&self, rel: &RelPath, target: &Path) -> Result<(), PackageError> {
        self.in_parent(rel, |parent, name| symlinkat(target, parent, name))
            .at("create the link", &self.full(rel))
    }

    /// What the link at `rel` says.
    pub(crate) fn read_link(&self, rel: &RelPath) -> Result<PathBuf, PackageError> {
        use std::os::unix::ffi::OsStringExt;
        self.in_parent(rel, |parent, name| rustix::fs::readlinkat(parent, name, Vec::new()))
            .map(|target| PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
            .at("read the link", &self.full(rel))
    }

    /// Makes `rel` a hard link to `other`'s `rel`. The plain errno: callers fall back by it.
    pub(crate) fn link_from(&self, other: &Root, rel: &RelPath) -> rustix::io::Result<()> {
        self.in_parent(rel, |parent, name| {
            other.in_parent(rel, |source, _| {
                rustix::fs::linkat(source, name, parent, name, AtFlags::empty())
            })
        })
    }

    /// Removes the file or link at `rel`.
    pub(crate) fn unlink(&self, rel: &RelPath) -> Result<(), PackageError> {
        self.in_parent(rel, |parent, name| rustix::fs::unlinkat(parent, name, AtFlags::empty()))
            .at("remove", &self.full(rel))
    }

    /// Removes the folder at `rel`; one that is not empty stays.
    pub(crate) fn rmdir(&self, rel: &RelPath) -> Result<(), PackageError> {
        self.forget();
        let removed = self
            .in_parent(rel, |parent, name| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(error).at("remove the folder", &self.full(rel)),
        }
    }

    /// Renames within the tree, over whatever file or link has the new name.
    pub(crate) fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), PackageError> {
        let renamed = self.open_parent(from).and_then(|source| {
            self.in_parent(to, |parent, name| {
                let source = source.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
                rustix::fs::renameat(source, from.name(), parent, name)
            })
        });
        renamed.at("rename", &self.full(from))
    }

    /// Gives what stands at `rel` (a link as itself) to an owner and a group.
    pub(crate) fn chown(&self, rel: &RelPath, uid: u32, gid: u32) -> Result<(), PackageError> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        self.in_parent(rel, |parent, name| {
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })
        .at("change the owner of", &self.full(rel))
    }

    /// Sets the times of a folder or link.
    pub(crate) fn set_times(&self, rel: &RelPath, times: &Timestamps) -> Result<(), PackageError> {
        self.in_parent(rel, |parent, name| {
            rustix::fs::utimensat(parent, name, times, AtFlags::SYMLINK_NOFOLLOW)
        })
        .at("set the times of", &self.full(rel))
    }

    /// Sets the permission bits of a folder.
    pub(crate) fn chmod_dir(&self, rel: &RelPath, mode: u32) -> Result<(), PackageError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        openat2(&self.dir, rel.as_str(), flags, Mode::empty(), INSIDE)
            .and_then(|dir| fchmod(dir, Mode::from_raw_mode(mode)))
            .at("change the mode of", &self.full(rel))
    }

    /// The handle of the root itself.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Forgets the folder handle that is kept, for when folders are about to be replaced.
    pub(crate) fn forget(&self) {
        self.last.replace(None);
    }

    /// Runs `act` with the handle of the folder around `rel` and its last name.
    fn in_parent<T>(
        &self,
        rel: &RelPath,
        act: impl FnOnce(BorrowedFd<'_>, &str) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let Some(parent) = rel.parent() else { return act(self.dir.as_fd(), rel.name()) };
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(path, _)| *path != parent) {
            let dir = self.open_dir(&parent)?;
            *last = Some((parent, dir));
        }
        match last.as_ref() {
            Some((_, dir)) => act(dir.as_fd(), rel.name()),
            None => Err(Errno::NOENT),
        }
    }

    fn open_parent(&self, rel: &RelPath) -> rustix::io::Result<Option<OwnedFd>> {
        rel.parent().map(|parent| self.open_dir(&parent)).transpose()
    }

    fn open_dir(&self, rel: &RelPath) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        openat2(&self.dir, rel.as_str(), flags, Mode::empty(), INSIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("door")).unwrap();
        let root = Root::open(inside.path()).unwrap();
        assert!(root.create(&rel("door/file")).is_err());
        assert!(root.mkdir(&rel("door/folder"), 0o755).is_err());
        assert!(root.symlink(&rel("door/link"), Path::new("x")).is_err());
        assert!(root.read(&rel("door/file")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_already_is_not_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.create(&rel("a")).unwrap();
        assert!(root.create(&rel("a")).is_err());
        assert!(root.mkdir(&rel("a"), 0o755).is_err());
    }
}
