//! Who may do what at the same time.
//!
//! The restic format survives many writers, but not a prune beside a writer or a reader, and the
//! library has no locks. So: one writer at a time (`write.lock`), and a prune only alone
//! (`prune.lock`, shared by everybody who reads or writes). Both are flock(2) on files that are
//! never removed: they end with the process that holds them.
//!
//! The real `restic` sees neither. For it there are lock files of its own kind beside these: see
//! the module `neighbour`.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::BackupError;

/// Locks that are held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub(crate) struct Held(Vec<File>);

impl Drop for Held {
    /// Closing would not be enough: a process that another thread begins meanwhile has copies of
    /// all descriptors until it becomes its program, and the lock would last as long as they do.
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = file.unlock();
        }
    }
}

/// For reading: no prune meanwhile.
pub(crate) fn read(dir: &Path) -> Result<Held, BackupError> {
    Ok(Held(vec![take(dir, "prune.lock", Mode::Shared)?]))
}

/// For writing: no other writer and no prune meanwhile.
pub(crate) fn write(dir: &Path) -> Result<Held, BackupError> {
    let mut held = Held(vec![take(dir, "write.lock", Mode::Alone)?]);
    held.0.push(take(dir, "prune.lock", Mode::Shared)?);
    Ok(held)
}

/// For pruning: nobody else at all meanwhile.
pub(crate) fn prune(dir: &Path) -> Result<Held, BackupError> {
    let mut held = Held(vec![take(dir, "write.lock", Mode::Alone)?]);
    held.0.push(take(dir, "prune.lock", Mode::Alone)?);
    Ok(held)
}

#[derive(Clone, Copy)]
enum Mode {
    Shared,
    Alone,
}

fn take(dir: &Path, name: &str, mode: Mode) -> Result<File, BackupError> {
    let path = dir.join(name);
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| BackupError::io("open the lock", &path, error))?;
    let taken = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Alone => file.try_lock(),
    };
    match taken {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let who = format!("another backup, restore or prune holds {}", path.display());
            Err(BackupError::Busy { who })
        }
        Err(TryLockError::Error(error)) => Err(BackupError::io("take the lock", &path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_writers_exclude_each_other_and_a_prune_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let reading = read(dir.path()).unwrap();
        let writing = write(dir.path()).unwrap();
        assert!(matches!(write(dir.path()), Err(BackupError::Busy { .. })));
        assert!(matches!(prune(dir.path()), Err(BackupError::Busy { .. })));
        drop(writing);
        assert!(matches!(prune(dir.path()), Err(BackupError::Busy { .. })));
        drop(reading);
        let pruning = prune(dir.path()).unwrap();
        assert!(matches!(read(dir.path()), Err(BackupError::Busy { .. })));
        drop(pruning);
        drop(read(dir.path()).unwrap());
    }

    #[test]
    fn a_copy_of_the_descriptor_in_a_process_being_made_does_not_prolong_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let pruning = prune(dir.path()).unwrap();
        let copies: Vec<File> = pruning.0.iter().map(|file| file.try_clone().unwrap()).collect();
        drop(pruning);
        drop(prune(dir.path()).unwrap());
        drop(copies);
    }
}
