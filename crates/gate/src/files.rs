//! Files of the gate: written so that a crash leaves the old content or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::GateError;

/// Makes a folder, and those above it, that only its owner may enter.
pub(crate) fn private_dir(path: &Path) -> Result<(), GateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(GateError::file("make the folder", path))
}

/// Replaces `path` by `content`, mode 0600, as [`replace_as`].
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), GateError> {
    replace_as(path, content, 0o600)
}

/// Replaces `path` by `content`. After a crash the file has its old or its new content;
/// only a temporary file beside it can be left over, and the next write takes its place.
pub(crate) fn replace_as(path: &Path, content: &[u8], mode: u32) -> Result<(), GateError> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // Whatever the umask says: another user's web server reads some of these.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(GateError::file("write", path))
}

/// A kernel lock that ends with its process. The file stays: removing it would let two processes
/// each lock a file of that name.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at `path`, and writes the process number into it for the next who asks.
    pub(crate) fn take(path: &Path) -> Result<Self, GateError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(GateError::file("open the lock", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(path)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .unwrap_or(0);
                return Err(GateError::AlreadyRunning { path: path.to_owned(), pid });
            }
            Err(errno) => return Err(GateError::file("lock", path)(errno.into())),
        }
        note_owner(&mut file).map_err(GateError::file("write", path))?;
        Ok(Self { file })
    }

    /// The lock of a gate that handed it over: the same lock, held by both for a moment.
    pub(crate) fn inherited(fd: OwnedFd) -> Self {
        let mut file = File::from(fd);
        // The number is for messages only.
        let _ = note_owner(&mut file);
        Self { file }
    }

    /// The same lock once more, for a successor.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

fn note_owner(file: &mut File) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// Keeps a damaged file aside under a name that is free, and tells that name.
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, GateError> {
    let free = (1..1_000)
        .map(|n| path.with_extension(format!("bad-{n}")))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| path.with_extension("bad-1"));
    fs::rename(path, &free).map_err(GateError::file("set aside", path))?;
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_lock_is_refused_with_the_number_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        match Lock::take(&path) {
            Err(GateError::AlreadyRunning { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(first);
        Lock::take(&path).unwrap();
    }
}
