//! A source tree on its way into the repository.
//!
//! The library drops what it cannot read and goes on, and its own walk follows the user's global
//! ignore file. This walk leaves out exactly what it is told to, opens each file before it is
//! named, and remembers everything it named and everything that failed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustic_core::jiff::Timestamp;
use rustic_core::repofile::{Metadata as NodeMeta, Node, NodeType};
use rustic_core::{ReadSource, ReadSourceEntry, RusticResult};
use rustix::fs::OFlags;

use crate::error::Unreadable;

/// A file changed so short ago can change once more without another time stamp: the next backup
/// reads it again, whatever its times say.
const RACY: Duration = Duration::from_secs(2);

/// The bits of a mode that Go, and so restic, keeps elsewhere (<https://pkg.go.dev/io/fs#FileMode>).
pub(crate) mod go_mode {
    pub(crate) const DIR: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const FIFO: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const STICKY: u32 = 1 << 20;
}

/// What the walk has named, for the comparison afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    File { bytes: u64 },
    Dir,
    Link { target: PathBuf },
    Other,
}

/// What both sides of a running backup know.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// By the path inside the snapshot.
    named: Mutex<BTreeMap<PathBuf, Named>>,
    unreadable: Mutex<Unreadable>,
    /// Bytes of the files named so far.
    pub(crate) bytes: AtomicU64,
    /// Set to end the walk and the reading.
    pub(crate) stop: AtomicBool,
}

impl Walk {
    pub(crate) fn named(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unreadable(&self) -> Unreadable {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, path: &Path, reason: String) {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).add(path, reason);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A tree to store.
pub(crate) struct TreeSource {
    root: PathBuf,
    skip: Vec<PathBuf>,
    walk: Arc<Walk>,
}

impl TreeSource {
    /// The tree at `root` without what lies at or below the (relative) paths of `skip`.
    pub(crate) fn new(root: &Path, skip: Vec<PathBuf>, walk: Arc<Walk>) -> Self {
        Self { root: root.to_owned(), skip, walk }
    }
}

impl ReadSource for TreeSource {
    type Open = TreeFile;
    type Iter = TreeWalker;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> TreeWalker {
        let mut walker = TreeWalker {
            root: self.root.clone(),
            skip: self.skip.clone(),
            walk: Arc::clone(&self.walk),
            pending: Vec::new(),
        };
        walker.descend(Path::new(""));
        walker
    }
}

/// Depth first, the names of each folder in order: what the library's trees need.
pub(crate) struct TreeWalker {
    root: PathBuf,
    skip: Vec<PathBuf>,
    walk: Arc<Walk>,
    /// Relative paths still to name, the next one last.
    pending: Vec<PathBuf>,
}

impl Iterator for TreeWalker {
    type Item = RusticResult<ReadSourceEntry<TreeFile>>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(relative) = self.pending.pop() {
            if self.walk.stopped() {
                return None;
            }
            match self.name(&relative) {
                Ok(entry) => return Some(Ok(entry)),
                // Gone since its folder was listed: a cache file, a session. Nothing is missed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.walk.fail(&relative, error.to_string()),
            }
        }
        None
    }
}

impl TreeWalker {
    fn descend(&mut self, relative: &Path) {
        let folder = self.root.join(relative);
        let listed = fs::read_dir(&folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
        });
        let mut names: Vec<OsString> = match listed {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound && relative != Path::new("") => {
                return;
            }
            Err(error) => return self.walk.fail(relative, error.to_string()),
        };
        names.sort_unstable();
        let paths = names.into_iter().rev().map(|name| relative.join(name));
        let skip = &self.skip;
        self.pending.extend(paths.filter(|path| !skip.iter().any(|one| path.starts_with(one))));
    }

    fn name(&mut self, relative: &Path) -> io::Result<ReadSourceEntry<TreeFile>> {
        let path = self.root.join(relative);
        let seen = fs::symlink_metadata(&path)?;
        let kind = seen.file_type();
        let (meta, node_type, named, open) = if kind.is_file() {
            // Opened here, so that size and times are those of what will be read.
            let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
            let file = OpenOptions::new().read(true).custom_flags(no_follow).open(&path)?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::other("it was replaced while it was read"));
            }
            let bytes = meta.len();
            self.walk.bytes.fetch_add(bytes, Ordering::Relaxed);
            let open = TreeFile {
                file,
                left: bytes,
                relative: relative.to_owned(),
                walk: Arc::clone(&self.walk),
            };
            (meta, NodeType::File, Named::File { bytes }, Some(open))
        } else if kind.is_dir() {
            (seen, NodeType::Dir, Named::Dir, None)
        } else if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            (seen, NodeType::from_link(&target), Named::Link { target }, None)
        } else if kind.is_fifo() {
            (seen, NodeType::Fifo, Named::Other, None)
        } else if kind.is_socket() {
            (seen, NodeType::Socket, Named::Other, None)
        } else {
            return Err(io::Error::other("it is a device"));
        };
        let is_dir = node_type == NodeType::Dir;
        let inside = Path::new("/").join(relative);
        let name = relative.file_name().unwrap_or_default();
        let node = Node::new_node(name, node_type, node_meta(&meta));
        self.walk.named().insert(inside.clone(), named);
        if is_dir {
            self.descend(relative);
        }
        Ok(ReadSourceEntry { path: inside, node, open })
    }
}

fn node_meta(meta: &Metadata) -> NodeMeta {
    let at = |seconds, nanos| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).ok();
    let modified = at(meta.mtime(), meta.mtime_nsec());
    let changed_at = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0)));
    let racy = changed_at
        .is_none_or(|at| at.elapsed().is_ok_and(|age| age < RACY) || at.elapsed().is_err());
    NodeMeta {
        mode: Some(to_go_mode(meta)),
        mtime: modified,
        atime: modified,
        // A time that no file has: it never equals the next backup's.
        ctime: if racy { Some(Timestamp::UNIX_EPOCH) } else { at(meta.ctime(), meta.ctime_nsec()) },
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
        inode: meta.ino(),
        size: if meta.is_file() { meta.len() } else { 0 },
        // Each name of a hard-linked file is stored as a file of its own.
        links: u64::from(!meta.is_dir()),
        ..NodeMeta::default()
    }
}

fn to_go_mode(meta: &Metadata) -> u32 {
    let mode = meta.mode();
    let kind = meta.file_type();
    let bits = [
        (kind.is_dir(), go_mode::DIR),
        (kind.is_symlink(), go_mode::SYMLINK),
        (kind.is_fifo(), go_mode::FIFO),
        (kind.is_socket(), go_mode::SOCKET),
        (mode & 0o4000 != 0, go_mode::SETUID),
        (mode & 0o2000 != 0, go_mode::SETGID),
        (mode & 0o1000 != 0, go_mode::STICKY),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(mode & 0o777, |mode, (_, bit)| mode | bit)
}

/// The permission bits of a mode in Go's form.
pub(crate) fn from_go_mode(mode: u32) -> u32 {
    let bits = [(go_mode::SETUID, 0o4000), (go_mode::SETGID, 0o2000), (go_mode::STICKY, 0o1000)];
    bits.into_iter()
        .filter(|(bit, _)| mode & bit != 0)
        .fold(mode & 0o777, |all, (_, bit)| all | bit)
}

/// A file of the tree: exactly as many bytes as it had when it was named.
pub(crate) struct TreeFile {
    file: File,
    left: u64,
    relative: PathBuf,
    walk: Arc<Walk>,
}

impl Read for TreeFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.walk.stopped() {
            return Err(io::Error::other("stopped"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = match self.file.read(&mut buffer[..most]) {
            // What was appended meanwhile belongs to the next backup; what is missing, to none.
            Ok(0) => Err(io::Error::other("it became shorter while it was read")),
            other => other,
        };
        match &read {
            Ok(count) => self.left -= *count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.walk.fail(&self.relative, error.to_string()),
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_just_now_never_counts_as_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = dir.path().join("fresh");
        fs::write(&fresh, "x").unwrap();
        let stored = node_meta(&fs::metadata(&fresh).unwrap()).ctime;
        assert_eq!(stored, Some(Timestamp::UNIX_EPOCH));
        // A file of the system, installed long ago.
        let old = fs::metadata("/bin/sh").unwrap();
        let stored = node_meta(&old).ctime.unwrap();
        assert_eq!(stored.as_second(), old.ctime());
    }

    #[test]
    fn modes_survive_the_way_through_go() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o4755, 0o2750, 0o1777] {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let meta = fs::metadata(dir.path()).unwrap();
            assert_eq!(from_go_mode(to_go_mode(&meta)), mode);
        }
    }
}
