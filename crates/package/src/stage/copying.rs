//! Bringing one file from the live tree to the staged one, and making it look as it did there.

use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io::Seek;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use entracte_model::{Hash, RelPath, UnixMs};
use rustix::fs::{FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::PackageError;
use crate::beneath::Root;
use crate::error::At;
use crate::files::{Sparse, hash_into};

/// Permission bits of files; special ones are never brought along.
const FILE_BITS: u32 = 0o777;
/// Permission bits of folders: setgid, by which new files get the folder's group, and sticky stay.
const FOLDER_BITS: u32 = 0o3777;

/// Owner, group and mode by which new things look as if they had always been there.
pub(crate) struct Likeness {
    uid: u32,
    gid: u32,
    folder_mode: u32,
    /// Whether this process may give files away.
    privileged: bool,
}

impl Likeness {
    /// As the live root; where there is none yet, as this process makes things.
    pub(crate) fn of(live: &Path) -> Result<Self, PackageError> {
        let privileged = rustix::process::geteuid().is_root();
        match fs::metadata(live) {
            Ok(meta) => {
                let folder_mode = meta.mode() & FOLDER_BITS;
                Ok(Self { uid: meta.uid(), gid: meta.gid(), folder_mode, privileged })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                folder_mode: 0o755,
                privileged,
            }),
            Err(error) => Err(error).at("look at", live),
        }
    }

    /// Makes `file` look as the live one did.
    pub(crate) fn same_as(&self, file: &File, live: &Metadata, exec: bool) -> std::io::Result<()> {
        if self.privileged {
            fchown(file, Some(live.uid()), Some(live.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(file_mode(live.mode(), exec)))?;
        file.set_times(FileTimes::new().set_modified(live.modified()?))
    }

    /// Makes a file from the archive look as the one that it replaces (`old`), or as the root.
    pub(crate) fn new_file(
        &self,
        file: &File,
        old: Option<&Stat>,
        exec: bool,
        made: UnixMs,
        path: &Path,
    ) -> Result<(), PackageError> {
        let old = old.filter(|stat| kind(stat) == FileType::RegularFile);
        if self.privileged {
            let (uid, gid) = old.map_or((self.uid, self.gid), |stat| (stat.st_uid, stat.st_gid));
            fchown(file, Some(uid), Some(gid)).at("change the owner of", path)?;
        }
        let mode = file_mode(old.map_or(0o644, |stat| stat.st_mode), exec);
        file.set_permissions(Permissions::from_mode(mode)).at("change the mode of", path)?;
        // The same on every machine, so that what is derived from it (ETags) is the same too.
        let made = UNIX_EPOCH + Duration::from_millis(u64::try_from(made.0).unwrap_or(0));
        file.set_times(FileTimes::new().set_modified(made)).at("set the times of", path)
    }

    /// Gives a link to the owner of the root.
    pub(crate) fn link(&self, staged: &Root, path: &RelPath) -> Result<(), PackageError> {
        if self.privileged { staged.chown(path, self.uid, self.gid) } else { Ok(()) }
    }

    /// Makes a folder look as the live one (`old`) did, or as the root.
    pub(crate) fn folder(
        &self,
        staged: &Root,
        path: &RelPath,
        old: Option<&Stat>,
    ) -> Result<(), PackageError> {
        let old = old.filter(|stat| kind(stat) == FileType::Directory);
        if self.privileged {
            let (uid, gid) = old.map_or((self.uid, self.gid), |stat| (stat.st_uid, stat.st_gid));
            staged.chown(path, uid, gid)?;
        }
        staged.chmod_dir(path, old.map_or(self.folder_mode, |stat| stat.st_mode) & FOLDER_BITS)?;
        match old {
            Some(old) => staged.set_times(path, &times(old)),
            None => Ok(()),
        }
    }

    /// Makes the staged root look as the live one.
    pub(super) fn root(&self, staged: &Path) -> Result<(), PackageError> {
        if self.privileged {
            std::os::unix::fs::chown(staged, Some(self.uid), Some(self.gid))
                .at("change the owner of", staged)?;
        }
        fs::set_permissions(staged, Permissions::from_mode(self.folder_mode))
            .at("change the mode of", staged)
    }
}

/// Who may execute is what the manifest says: all who may read, or nobody.
fn file_mode(mode: u32, exec: bool) -> u32 {
    let plain = mode & FILE_BITS & !0o111;
    if exec { plain | 0o100 | (plain & 0o444) >> 2 } else { plain }
}

fn times(stat: &Stat) -> Timestamps {
    let seconds = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: seconds, last_modification: seconds }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether `path` is a regular file.
pub(super) fn is_file(root: &Root, path: &RelPath) -> Result<bool, PackageError> {
    Ok(root.stat(path)?.is_some_and(|stat| kind(&stat) == FileType::RegularFile))
}

/// Whether `path` is a link that says `target`.
pub(super) fn is_link_to(root: &Root, path: &RelPath, target: &str) -> Result<bool, PackageError> {
    let is_link = root.stat(path)?.is_some_and(|stat| kind(&stat) == FileType::Symlink);
    Ok(is_link && root.read_link(path)? == Path::new(target))
}

/// Makes a hard link; `false` where the system does not want to, so that a copy is due.
pub(super) fn hard_link(staged: &Root, live: &Root, path: &RelPath) -> Result<bool, PackageError> {
    match staged.link_from(live, path) {
        Ok(()) => Ok(true),
        // Another file system, too many links, or a file that is not this user's.
        Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error).at("link", &staged.full(path)),
    }
}

/// The size and hash of what is at `path`.
pub(super) fn hash_of(root: &Root, path: &RelPath) -> Result<(u64, Hash), PackageError> {
    hash_into(&mut root.read(path)?, |_| Ok(()), &root.full(path))
}

/// Clones or copies a file: a new inode. Gives the size and hash of what is there now, and whether
/// it was cloned. `finish` sets owner and mode.
pub(super) fn copy(
    staged: &Root,
    live: &Root,
    path: &RelPath,
    reflink: &mut bool,
    finish: impl FnOnce(&File, &Metadata) -> std::io::Result<()>,
) -> Result<((u64, Hash), bool), PackageError> {
    let mut source = live.read(path)?;
    let meta = source.metadata().at("look at", &live.full(path))?;
    let mut target = staged.create(path)?;
    let full = staged.full(path);
    let cloned = *reflink && clone(&target, &source, &full, reflink)?;
    let content = if cloned {
        // The clone is what the source was at that moment: it is read, not the source.
        source.rewind().at("read", &live.full(path))?;
        hash_of(staged, path)?
    } else {
        let mut sparse = Sparse::new(&mut target);
        let sink = |chunk: &[u8]| sparse.put(chunk).at("write", &full);
        let content = hash_into(&mut source, sink, &live.full(path))?;
        sparse.end().at("write", &full)?;
        content
    };
    finish(&target, &meta).at("set owner, mode and times of", &full)?;
    Ok((content, cloned))
}

fn clone(
    target: &File,
    source: &File,
    path: &Path,
    reflink: &mut bool,
) -> Result<bool, PackageError> {
    match rustix::fs::ioctl_ficlone(target, source) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
            // It will not for the next file either.
            *reflink = false;
            Ok(false)
        }
        Err(error) => Err(error).at("clone", path),
    }
}

#[cfg(test)]
mod tests {
    use super::file_mode;

    #[test]
    fn modes_are_kept_but_for_who_may_execute() {
        assert_eq!(file_mode(0o100_640, false), 0o640);
        assert_eq!(file_mode(0o640, true), 0o750);
        assert_eq!(file_mode(0o4755, false), 0o644);
        assert_eq!(file_mode(0o600, true), 0o700);
    }
}
