//! Files of a rollback point: private, and durable before anything relies on them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::DbError;

/// What is copied at a time, and said as progress.
const COPY_BYTES: usize = 1 << 20;

/// Creates a directory that only we can enter, with its parents; it may exist.
pub(crate) fn private_dir(path: &Path) -> Result<(), DbError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(DbError::io("create the directory", path))
}

/// Creates (or empties) a file that only we can read.
pub(crate) fn private_file(path: &Path) -> Result<File, DbError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(DbError::io("create", path))
}

/// Makes a file's content durable.
pub(crate) fn sync_file(path: &Path) -> Result<(), DbError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(DbError::io("sync", path))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), DbError> {
    sync_file(path)
}

/// Writes `bytes` so that after a crash the file holds all of them or is as it was.
///
/// A crash can leave `<name>.new` behind, which the next call overwrites.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), DbError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!("{name}.new"));
    let mut file = private_file(&new)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .map_err(DbError::io("write", path))?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Copies `from` into the open, empty file `to` (at `to_path`): as a reflink where the file
/// system can, else byte by byte. `copied` hears of each step in bytes.
pub(crate) fn copy_contents(
    from: &Path,
    to: &mut File,
    to_path: &Path,
    copied: &mut dyn FnMut(u64),
) -> Result<(), DbError> {
    let mut source = File::open(from).map_err(DbError::io("open", from))?;
    if rustix::fs::ioctl_ficlone(&*to, &source).is_ok() {
        let length = source.metadata().map_err(DbError::io("look at", from))?.len();
        copied(length);
        return Ok(());
    }
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(DbError::io("read", from)(error)),
        };
        to.write_all(&buffer[..read]).map_err(DbError::io("write", to_path))?;
        copied(read as u64);
    }
}

/// How much is free where `path` lies or will lie; nothing where that cannot be seen.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    let about = rustix::fs::statvfs(there).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Whether files in `from` can be copied into the directory `to` without copying their blocks.
/// Tried, with an empty hand: some file systems can in principle and refuse in practice.
pub(crate) fn shares_blocks(from: &Path, to: &Path) -> Result<bool, DbError> {
    let Some(file) = fs::read_dir(from)
        .map_err(DbError::io("list", from))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_file())
    else {
        return Ok(false);
    };
    let source = File::open(&file).map_err(DbError::io("open", &file))?;
    shares_blocks_of(&source, to)
}

/// The same of one open file.
pub(crate) fn shares_blocks_of(source: &File, to: &Path) -> Result<bool, DbError> {
    // A name that nobody else has: the directory need not be ours alone.
    let probe = to.join(format!(".entracte-probe-{}", std::process::id()));
    let copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&probe)
        .map_err(DbError::io("create", &probe))?;
    let can = rustix::fs::ioctl_ficlone(&copy, source).is_ok();
    drop(copy);
    remove_if_there(&probe)?;
    Ok(can)
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), DbError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DbError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it; it may be missing.
pub(crate) fn remove_tree_if_there(path: &Path) -> Result<(), DbError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DbError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
