//! One at a time: a kernel lock that dies with its holder.
//!
//! The lock is an flock(2) on a file that is never removed nor truncated: a file that comes and
//! goes can be locked twice. Who holds it stands in a record of its own beside it (`<file>.owner`),
//! which is for people only: whether the lock is held is always asked of the kernel, so a record
//! that a killed process left behind locks nobody out.
//!
//! The descriptor is closed on exec: a hook that starts a service does not hand the lock on.
//! On network file systems flock is emulated or absent; the state folder belongs on a local disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use entracte_model::UnixMs;
use rustix::process::{Pid, getpid, getuid, test_kill_process};
use rustix::system::uname;
use serde::{Deserialize, Serialize};

use crate::facts::clock;
use crate::{durable, fault};

/// How long [`Lock::try_take`] waits for a look of somebody else ([`Lock::holder`]) to end: a look
/// holds the lock, shared, for some microseconds.
const LOOK_MS_MAX: u64 = 200;
/// How long [`Lock::holder`] waits for a fresh holder to write its record.
const RECORD_MS_MAX: u64 = 500;
/// The pause between two tries of either wait.
const PAUSE_MS: u64 = 5;

/// A lock that is held. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
    record: PathBuf,
}

/// Who holds a lock, for people to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process.
    pub pid: u32,
    /// What it is busy with: the release, or `backup`.
    pub release: String,
    /// The user that started it.
    pub user: String,
    /// The machine that it runs on.
    pub host: String,
    /// Since when.
    pub since: UnixMs,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{} is busy: {}", path.display(), describe(owner.as_ref()))]
    Busy {
        /// The lock.
        path: PathBuf,
        /// Who; none where the holder has not written its record (yet), or it cannot be read.
        owner: Option<Owner>,
    },
    /// Another reason, which is not "busy": a full disk must never read as a held lock.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Owner {
    /// This process, from now on, busy with `release`.
    pub fn this(release: &str) -> Self {
        let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
        Self {
            pid: std::process::id(),
            release: release.to_owned(),
            user: user.unwrap_or_else(|_| format!("uid {}", getuid().as_raw())),
            host: this_host(),
            since: clock(),
        }
    }

    /// A holder that cannot be named.
    pub fn unknown() -> Self {
        let unknown = || "unknown".to_owned();
        Self { pid: 0, release: unknown(), user: unknown(), host: unknown(), since: UnixMs(0) }
    }

    /// Whether the process that this names can still be there.
    fn is_alive(&self) -> bool {
        if self.host != this_host() {
            return true;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { return false };
        pid == getpid() || !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    }
}

impl Lock {
    /// Takes the lock at `path` without waiting for its holder.
    ///
    /// # Errors
    /// [`LockError::Busy`] where somebody holds it (this process included); [`LockError::Io`]
    /// where it cannot be known or recorded. The lock is not held then.
    pub fn try_take(path: &Path, owner: &Owner) -> Result<Lock, LockError> {
        let file = open(path)?;
        let deadline = Instant::now() + Duration::from_millis(LOOK_MS_MAX);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(PAUSE_MS));
                }
                Err(TryLockError::WouldBlock) => {
                    let owner = read_record(&record_of(path));
                    return Err(LockError::Busy { path: path.to_owned(), owner });
                }
                Err(TryLockError::Error(source)) => return Err(failed("lock", path, source)),
            }
        }
        let record = record_of(path);
        fault::check("lock.record")
            .and_then(|()| durable::write(&record, &to_json(owner), 0o644))
            .map_err(|source| failed("write the owner's record", &record, source))?;
        Ok(Lock { file, record })
    }

    /// Takes the lock at `path`, and waits for its holder so long.
    ///
    /// # Errors
    /// As [`Lock::try_take`]: [`LockError::Busy`] names who held it to the last.
    pub fn take_within(path: &Path, owner: &Owner, patience: Duration) -> Result<Lock, LockError> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::try_take(path, owner) {
                Err(LockError::Busy { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(PAUSE_MS));
                }
                taken => return taken,
            }
        }
    }

    /// Who holds the lock at `path` right now; none where nobody does.
    ///
    /// What cannot be looked at counts as held by [`Owner::unknown`]: from a missing permission
    /// nobody may conclude that nothing is running.
    pub fn holder(path: &Path) -> Option<Owner> {
        let deadline = Instant::now() + Duration::from_millis(RECORD_MS_MAX);
        loop {
            match is_held(path) {
                Ok(false) => return None,
                Ok(true) => {}
                Err(_) => return Some(Owner::unknown()),
            }
            if let Some(owner) = read_record(&record_of(path)) {
                return Some(owner);
            }
            if Instant::now() >= deadline {
                return Some(Owner::unknown());
            }
            std::thread::sleep(Duration::from_millis(PAUSE_MS));
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The record goes while the lock is still ours, or it could be the next holder's. A record
        // that stays is harmless: its process is gone, or the kernel says that nobody holds it.
        let _ = fs::remove_file(&self.record);
        let _ = self.file.unlock();
    }
}

/// Asks the kernel, by taking the lock shared for a moment.
fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .map_err(|source| failed("open the lock", path, source))?;
    // A lock on a file that has another name by now locks nobody out.
    let here = fs::symlink_metadata(path).map_err(|source| failed("look at", path, source))?;
    let held = file.metadata().map_err(|source| failed("look at", path, source))?;
    if (here.dev(), here.ino()) != (held.dev(), held.ino()) {
        let source = io::Error::other("it was replaced or is a link; a plain file is expected");
        return Err(failed("use the lock", path, source));
    }
    Ok(file)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> LockError {
    LockError::Io { doing, path: path.to_owned(), source }
}

fn record_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".owner");
    PathBuf::from(name)
}

/// The record, unless its process is gone: then a new holder has not written its own yet.
fn read_record(record: &Path) -> Option<Owner> {
    let bytes = fs::read(record).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Owner::is_alive)
}

fn to_json(owner: &Owner) -> Vec<u8> {
    serde_json::to_vec_pretty(owner).expect("numbers and strings always have a JSON form")
}

fn this_host() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

fn describe(owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => format!(
            "{} (process {}, started by {} on {}) holds it; wait for its end, or stop it",
            owner.release, owner.pid, owner.user, owner.host
        ),
        None => "another process holds it and has not said who it is; try again".to_owned(),
    }
}
