//! Who may do what at the same time.
//!
//! The restic format survives many writers, but not a prune beside a writer or a reader, and the
//! library has no locks. So: one writer at a time (`write.lock`), and a prune only alone
//! (`prune.lock`, shared by everybody who reads or writes). Both are flock(2) on files that are
//! never removed: they end with the process that holds them.
//!
//! The real `restic` leaves lock files of its own in `locks/`; a fresh one means that it is at
//! work, and writers wait for another time. It does not see our locks: do not prune with it while
//! a backup runs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::BackupError;

/// After this long without a refresh restic itself calls a lock stale.
const RESTIC_STALE: Duration = Duration::from_secs(30 * 60);

/// Locks that are held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub(crate) struct Held(#[expect(dead_code, reason = "held, never read")] Vec<File>);

/// For reading: no prune meanwhile.
pub(crate) fn read(dir: &Path) -> Result<Held, BackupError> {
    Ok(Held(vec![take(dir, "prune.lock", Mode::Shared)?]))
}

/// For writing: no other writer and no prune meanwhile.
pub(crate) fn write(dir: &Path) -> Result<Held, BackupError> {
    let held = vec![take(dir, "write.lock", Mode::Alone)?, take(dir, "prune.lock", Mode::Shared)?];
    refuse_restic(dir)?;
    Ok(Held(held))
}

/// For pruning: nobody else at all meanwhile.
pub(crate) fn prune(dir: &Path) -> Result<Held, BackupError> {
    let held = vec![take(dir, "write.lock", Mode::Alone)?, take(dir, "prune.lock", Mode::Alone)?];
    refuse_restic(dir)?;
    Ok(Held(held))
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

fn refuse_restic(dir: &Path) -> Result<(), BackupError> {
    for part in ["trees", "dumps"] {
        let locks = dir.join(part).join("locks");
        let entries = match fs::read_dir(&locks) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(BackupError::io("read the folder", &locks, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| BackupError::io("read the folder", &locks, error))?;
            let changed = match entry.metadata().and_then(|meta| meta.modified()) {
                Ok(changed) => changed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BackupError::io("look at", &entry.path(), error)),
            };
            // A time in the future counts as fresh.
            let age = SystemTime::now().duration_since(changed).unwrap_or_default();
            if age < RESTIC_STALE {
                let who = format!(
                    "restic holds {} (if it is dead: `restic unlock`)",
                    entry.path().display()
                );
                return Err(BackupError::Busy { who });
            }
        }
    }
    Ok(())
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
    fn a_fresh_lock_of_restic_is_honoured_and_a_stale_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("dumps/locks");
        fs::create_dir_all(&locks).unwrap();
        let file = File::create(locks.join("ab12")).unwrap();
        assert!(matches!(write(dir.path()), Err(BackupError::Busy { .. })));
        file.set_modified(SystemTime::now() - RESTIC_STALE).unwrap();
        drop(write(dir.path()).unwrap());
    }
}
