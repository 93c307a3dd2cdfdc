//! The lock files by which `restic` knows who is at work in a repository: ours for it to see, and
//! its for us.
//!
//! A lock file is a small JSON text, encrypted as everything in the repository. It is written anew
//! every few minutes, and it is stale when that was long ago or its process is gone; so is one
//! that we left behind when we were killed, and the next of our writers removes it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use aes256ctr_poly1305aes::aead::Aead;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use jiff::Timestamp;
use rustic_core::repofile::MasterKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::BackupError;
use crate::error::is_full;

/// After this long without a refresh restic itself calls a lock stale.
pub(crate) const STALE: Duration = Duration::from_secs(30 * 60);
/// How often ours is refreshed.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// The user that our lock files name: this program, so that the next one knows its own.
const US: &str = "entracte";
const NONCE_BYTES: usize = 16;
/// A lock file is a few hundred bytes; a larger one is none.
const LOCK_BYTES_MAX: u64 = 64 * 1024;
/// The first byte of a compressed file; one without compression begins with its brace.
const COMPRESSED: u8 = 2;

/// How much a lock keeps others away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Others may read and add, and nobody may prune.
    Shared,
    /// Nobody else at all.
    Alone,
}

/// What a lock file says, in restic's words.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Word {
    time: Timestamp,
    exclusive: bool,
    hostname: String,
    username: String,
    pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl Word {
    fn ours(sharing: Sharing) -> Self {
        Self {
            time: Timestamp::now(),
            exclusive: sharing == Sharing::Alone,
            hostname: hostname(),
            username: US.to_owned(),
            pid: rustix::process::getpid().as_raw_pid(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    fn is_stale(&self) -> bool {
        // A time in the future counts as fresh.
        let age = Timestamp::now().as_second().saturating_sub(self.time.as_second());
        let old = u64::try_from(age).is_ok_and(|age| age >= STALE.as_secs());
        old || (self.hostname == hostname() && !lives(self.pid))
    }
}

/// Our lock file in one repository, there until this is dropped.
#[derive(Debug)]
pub(crate) struct Announced {
    /// Hanging up tells the refresher to end.
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
    file: Arc<Mutex<Option<PathBuf>>>,
}

/// Says in the repository at `root` that we are at work, unless somebody else is in the way.
///
/// Where there is no room left for the file, only the others' locks are honoured: a full disk must
/// not keep anybody from reading a backup, nor from making room.
pub(crate) fn announce(
    root: &Path,
    key: &MasterKey,
    sharing: Sharing,
) -> Result<Announced, BackupError> {
    let folder = root.join("locks");
    fs::create_dir_all(&folder).map_err(|error| BackupError::io("create", &folder, error))?;
    // Ours first and then theirs, as restic does: of two that begin at once, at least one sees the
    // other.
    let file = match write(&folder, key, sharing) {
        Ok(file) => Some(file),
        Err(error) if is_full(&error) => None,
        Err(error) => return Err(BackupError::io("write a lock in", &folder, error)),
    };
    let mut announced =
        Announced { stop: None, refresher: None, file: Arc::new(Mutex::new(file.clone())) };
    refuse_others(&folder, key, sharing, file.as_deref())?;
    let (stop, stopped) = channel::<()>();
    let (folder, key, shared) = (folder, key.clone(), Arc::clone(&announced.file));
    announced.stop = Some(stop);
    announced.refresher = Some(thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(REFRESH_EVERY) {
            refresh(&folder, &key, sharing, &shared);
        }
    }));
    Ok(announced)
}

/// A new file, and then the old one away. One that cannot be written is tried again the next
/// time: until then the old one counts.
fn refresh(folder: &Path, key: &MasterKey, sharing: Sharing, file: &Mutex<Option<PathBuf>>) {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(new) = write(folder, key, sharing)
        && let Some(old) = file.replace(new)
    {
        // It is stale in half an hour at the latest.
        drop(fs::remove_file(old));
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(refresher) = self.refresher.take() {
            drop(refresher.join());
        }
        if let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // What stays is stale as soon as this process has ended.
            drop(fs::remove_file(file));
        }
    }
}

fn write(folder: &Path, key: &MasterKey, sharing: Sharing) -> io::Result<PathBuf> {
    let json = serde_json::to_vec(&Word::ours(sharing))?;
    let content = encrypt(key, &json)?;
    let name = Sha256::digest(&content)
        .iter()
        .fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
    let path = folder.join(name);
    let temporary = path.with_extension("part");
    // Not synced: a crash of the machine ends what it locks for.
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&content))
        .and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    Ok(path)
}

fn refuse_others(
    folder: &Path,
    key: &MasterKey,
    sharing: Sharing,
    own: Option<&Path>,
) -> Result<(), BackupError> {
    let failed = |error| BackupError::io("read the folder", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if own == Some(path.as_path()) {
            continue;
        }
        let content = match read(&path) {
            Ok(content) => content,
            // It was taken back meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(BackupError::io("read", &path, error)),
        };
        match content.as_deref().and_then(|content| decrypt(key, content)) {
            // Left by one of us that was killed; nobody else will take it away.
            Some(word) if word.is_stale() && word.username == US => {
                drop(fs::remove_file(&path));
            }
            Some(word) if word.is_stale() => {}
            Some(word) if word.exclusive || sharing == Sharing::Alone => {
                return Err(busy(&path, &format!("process {} on {}", word.pid, word.hostname)));
            }
            Some(_) => {}
            // Half written, or by a newer restic: whoever it is has been here.
            None if is_fresh(&path) => return Err(busy(&path, "somebody")),
            None => {}
        }
    }
    Ok(())
}

fn busy(path: &Path, who: &str) -> BackupError {
    let path = path.display();
    BackupError::Busy {
        who: format!("{who} holds restic's lock {path} (if it is dead: `restic unlock`)"),
    }
}

/// None for what is too large to be a lock, or no file at all.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() || meta.len() > LOCK_BYTES_MAX {
        return Ok(None);
    }
    fs::read(path).map(Some)
}

fn is_fresh(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|meta| meta.modified());
    // One that went away meanwhile holds nobody up.
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < STALE)
}

/// restic's own form: a random nonce, the text, the sum that proves it.
fn encrypt(key: &MasterKey, text: &[u8]) -> io::Result<Vec<u8>> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let sealed = cipher(key)
        .encrypt((&nonce).into(), text)
        .map_err(|_| io::Error::other("the lock cannot be encrypted"))?;
    Ok([&nonce[..], &sealed].concat())
}

fn decrypt(key: &MasterKey, content: &[u8]) -> Option<Word> {
    let (nonce, sealed) = content.split_at_checked(NONCE_BYTES)?;
    let text = cipher(key).decrypt(nonce.into(), sealed).ok()?;
    let text = match text.split_first()? {
        (&COMPRESSED, rest) => {
            zstd::bulk::decompress(rest, usize::try_from(LOCK_BYTES_MAX).ok()?).ok()?
        }
        _ => text,
    };
    serde_json::from_slice(&text).ok()
}

fn cipher(key: &MasterKey) -> Aes256CtrPoly1305Aes {
    let whole = [&key.encrypt[..], &key.mac.k, &key.mac.r].concat();
    Aes256CtrPoly1305Aes::new(Key::from_slice(&whole))
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn lives(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    // One that we may not signal lives.
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks(root: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join("locks")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn leave(root: &Path, key: &MasterKey, word: &Word) {
        let content = encrypt(key, &serde_json::to_vec(word).unwrap()).unwrap();
        fs::create_dir_all(root.join("locks")).unwrap();
        fs::write(root.join("locks").join(format!("{:064x}", word.pid)), content).unwrap();
    }

    /// A process id that was somebody's and is nobody's.
    fn dead() -> i32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        pid
    }

    #[test]
    fn shared_locks_go_together_and_an_exclusive_one_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::new();
        let first = announce(dir.path(), &key, Sharing::Shared).unwrap();
        let second = announce(dir.path(), &key, Sharing::Shared).unwrap();
        let alone = announce(dir.path(), &key, Sharing::Alone);
        assert!(matches!(alone, Err(BackupError::Busy { .. })));
        assert_eq!(locks(dir.path()).len(), 2, "one that was refused leaves nothing");
        drop((first, second));
        let alone = announce(dir.path(), &key, Sharing::Alone).unwrap();
        let shared = announce(dir.path(), &key, Sharing::Shared);
        assert!(matches!(shared, Err(BackupError::Busy { .. })));
        drop(alone);
        assert!(locks(dir.path()).is_empty());
    }

    #[test]
    fn a_refreshed_lock_is_another_file_and_still_one() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::new();
        let held = announce(dir.path(), &key, Sharing::Alone).unwrap();
        let before = locks(dir.path());
        refresh(&dir.path().join("locks"), &key, Sharing::Alone, &held.file);
        let after = locks(dir.path());
        assert!(before.len() == 1 && after.len() == 1 && before != after);
        drop(held);
        assert!(locks(dir.path()).is_empty());
    }

    #[test]
    fn a_dead_process_holds_nobody_up_and_another_machine_does() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::new();
        let ours = Word { pid: dead(), ..Word::ours(Sharing::Alone) };
        let theirs = Word { username: "root".into(), pid: dead(), ..ours.clone() };
        leave(dir.path(), &key, &ours);
        leave(dir.path(), &key, &theirs);
        drop(announce(dir.path(), &key, Sharing::Alone).unwrap());
        let left = locks(dir.path());
        assert_eq!(left.len(), usize::from(ours.pid != theirs.pid), "ours is taken away");

        let elsewhere = Word { hostname: "another.example".into(), ..theirs };
        leave(dir.path(), &key, &elsewhere);
        let refused = announce(dir.path(), &key, Sharing::Shared);
        assert!(matches!(refused, Err(BackupError::Busy { .. })));
        let old = Timestamp::now() - jiff::SignedDuration::from_mins(31);
        leave(dir.path(), &key, &Word { time: old, ..elsewhere });
        drop(announce(dir.path(), &key, Sharing::Shared).unwrap());
    }

    #[test]
    fn a_lock_that_cannot_be_read_counts_while_it_is_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::new();
        let locks = dir.path().join("locks");
        fs::create_dir_all(&locks).unwrap();
        let file = fs::File::create(locks.join("ab12")).unwrap();
        let refused = announce(dir.path(), &key, Sharing::Shared);
        assert!(matches!(refused, Err(BackupError::Busy { .. })));
        file.set_modified(SystemTime::now() - STALE).unwrap();
        drop(announce(dir.path(), &key, Sharing::Shared).unwrap());
    }
}
