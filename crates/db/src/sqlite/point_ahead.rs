//! The copy of a SQLite file that is made while the game runs and made equal inside the window:
//! then the window costs reading both files and writing what changed, not writing and syncing all.
//!
//! Why that is exact. What the copy holds beforehand does not matter: in the window, with the
//! write lock held and the write-ahead log emptied into the file, every byte of both files is
//! compared. So a copy that a dead process left, half written or of long ago, is as good a
//! beginning as any, and nothing has to vouch for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use entracte_model::way::{Offer, Way};
use rusqlite::Connection;

use super::fence::is_locked;
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{free_bytes, private_dir, private_file, shares_blocks_of, sync_dir, sync_file};

/// The folder in a point's directory.
const AHEAD: &str = "ahead";
const COPY: &str = "point.sqlite";
/// What is compared before the next report of progress.
const STRIDE_BYTES: u64 = 16 << 20;
/// What one thread reads at a time.
const BLOCK_BYTES: usize = 512 << 10;
/// The least that is written; pages of a database are as long or a power of two away from it.
const UNIT_BYTES: usize = 4 << 10;
/// More threads than this gain nothing: memory is as fast as it is.
const THREADS_MAX: usize = 4;
/// How long a reader of an old state may keep the write-ahead log from being emptied.
const CHECKPOINT_MS_MAX: u64 = 2_000;
/// What a game changes between the copying and the window: a hundredth, and what every game does.
const CHANGED_SHARE: u64 = 100;
const CHANGED_BYTES: u64 = 1 << 20;
/// How often somebody may write between the emptying of the log and our lock.
const TRIES_MAX: u32 = 5;

/// Database files that this process reads by itself, never closed while they have a name: the
/// system drops all locks of a process on a file when *any* of its handles on it is closed, also
/// those that the engine holds in another thread.
static HELD: Mutex<Vec<(u64, u64, Arc<File>)>> = Mutex::new(Vec::new());

fn hold(path: &Path) -> Result<Arc<File>, DbError> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    // Nobody can enter a file without a name any more; its space is wanted back.
    held.retain(|(.., file)| file.metadata().is_ok_and(|about| about.nlink() > 0));
    let about = fs::metadata(path).map_err(DbError::io("look at", path))?;
    let known = held.iter().find(|(dev, ino, _)| (*dev, *ino) == (about.dev(), about.ino()));
    if let Some((.., file)) = known {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(File::open(path).map_err(DbError::io("open", path))?);
    let about = file.metadata().map_err(DbError::io("look at", path))?;
    held.push((about.dev(), about.ino(), Arc::clone(&file)));
    Ok(file)
}

/// Copies the file `live` into `dir`, or brings a copy that lies there nearer to it. The number
/// of bytes written; none where the file system shares blocks between copies, which takes no
/// time in the window either.
pub(super) fn prepare(
    connection: &Connection,
    live: &Path,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<u64>, DbError> {
    let folder = dir.join(AHEAD);
    private_dir(&folder)?;
    let from = hold(live)?;
    if shares_blocks_of(&from, &folder)? {
        discard(dir)?;
        return Ok(None);
    }
    // What is in the log alone would have to be written in the window. Waits for nobody.
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .map_err(DbError::engine::<rusqlite::Error>("emptying the write-ahead log"))?;
    let path = folder.join(COPY);
    let to = open_copy(&path)?;
    let written =
        make_equal(&Side { file: &from, path: live }, &Side { file: &to, path: &path }, progress)?;
    // Not for what it holds, which is compared anyhow: for the time that it takes.
    to.sync_all().map_err(DbError::io("sync", &path))?;
    sync_dir(&folder)?;
    Ok(Some(written))
}

/// Makes `dir/point.sqlite` equal to the file `live`, durably, while nobody can write. False
/// where the file alone is not the database: somebody keeps the write-ahead log from being
/// emptied.
pub(super) fn take(
    connection: &Connection,
    live: &Path,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<bool, DbError> {
    if !lock_with_empty_log(connection, live)? {
        return Ok(false);
    }
    let taken = take_locked(live, dir, progress);
    let ended = connection.execute_batch("ROLLBACK");
    taken?;
    ended.map_err(DbError::engine::<rusqlite::Error>("giving the write lock back"))?;
    Ok(true)
}

/// What the copy would have to move.
pub(super) fn offer(live: &Path, dir: &Path) -> Result<Offer, DbError> {
    let from = hold(live)?;
    let total = length(&from, live)?;
    let place = dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let shares = shares_blocks_of(&from, place).unwrap_or(false);
    let changed = total.min(total / CHANGED_SHARE + CHANGED_BYTES);
    Ok(Offer {
        way: Way::Copy,
        obstacle: None,
        ahead_bytes: if shares { 0 } else { total },
        // Both files.
        read_bytes: if shares { 0 } else { total * 2 },
        window_bytes: if shares { 0 } else { changed },
        back_bytes: total,
        disk_bytes: if shares { changed } else { total },
        free_bytes: free_bytes(dir),
    })
}

fn take_locked(live: &Path, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), DbError> {
    let from = hold(live)?;
    let bytes = length(&from, live)?;
    let (prepared, path) = (dir.join(AHEAD).join(COPY), dir.join(COPY));
    progress(step(0, bytes));
    match fs::rename(&prepared, &path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let to = private_file(&path)?;
            if rustix::fs::ioctl_ficlone(&to, &*from).is_ok() {
                progress(step(bytes, bytes));
                return sync_file(&path).and_then(|()| sync_dir(dir));
            }
        }
        Err(error) => return Err(DbError::io("move", prepared)(error)),
    }
    let to = open_copy(&path)?;
    make_equal(&Side { file: &from, path: live }, &Side { file: &to, path: &path }, progress)?;
    to.sync_all().map_err(DbError::io("sync", &path))?;
    sync_dir(dir)
}

/// Takes the write lock while everything that was committed is in the file itself; from then on
/// nobody changes the file. False where a reader of an old state does not let go of the log.
fn lock_with_empty_log(connection: &Connection, live: &Path) -> Result<bool, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("emptying the write-ahead log");
    connection.busy_timeout(Duration::from_millis(CHECKPOINT_MS_MAX)).map_err(doing())?;
    for _ in 0..TRIES_MAX {
        let busy: i64 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(doing())?;
        if busy != 0 {
            return Ok(false);
        }
        match connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => {}
            Err(error) if is_locked(&error) => return Ok(false),
            Err(error) => return Err(doing()(error)),
        }
        if log_is_empty(live)? {
            return Ok(true);
        }
        // Somebody was between the two.
        connection.execute_batch("ROLLBACK").map_err(doing())?;
    }
    Ok(false)
}

fn log_is_empty(live: &Path) -> Result<bool, DbError> {
    let mut log = live.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    match fs::metadata(&log) {
        Ok(about) => Ok(about.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(DbError::io("look at", log)(error)),
    }
}

/// Removes the copy that was made ahead.
pub(super) fn discard(dir: &Path) -> Result<(), DbError> {
    crate::files::remove_tree_if_there(&dir.join(AHEAD))
}

fn open_copy(path: &Path) -> Result<File, DbError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(DbError::io("open", path))
}

fn step(done: u64, total: u64) -> Progress {
    Progress { done, total, unit: "bytes", note: "rollback point".to_owned() }
}

fn length(file: &File, path: &Path) -> Result<u64, DbError> {
    Ok(file.metadata().map_err(DbError::io("look at", path))?.len())
}

/// One of the two files.
#[derive(Clone, Copy)]
struct Side<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Side<'_> {
    /// Reads up to the end of the buffer or of the file.
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<usize, DbError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DbError::io("read", self.path)(error)),
            }
        }
        Ok(filled)
    }
}

/// Compares the two files as a whole and writes into `copy` what differs; how much that was.
fn make_equal(
    live: &Side<'_>,
    copy: &Side<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let total = length(live.file, live.path)?;
    copy.file.set_len(total).map_err(DbError::io("cut", copy.path))?;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let share = STRIDE_BYTES.div_ceil(threads as u64);
    let (mut done, mut written) = (0, 0);
    while done < total {
        let end = total.min(done + STRIDE_BYTES);
        written += thread::scope(|scope| {
            let workers: Vec<_> = (done..end)
                .step_by(usize::try_from(share).unwrap_or(usize::MAX))
                .map(|from| scope.spawn(move || part(live, copy, from, end.min(from + share))))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("comparing does not panic"))
                .sum::<Result<u64, DbError>>()
        })?;
        done = end;
        progress(step(done, total));
    }
    Ok(written)
}

/// The bytes `from..to` of both files.
fn part(live: &Side<'_>, copy: &Side<'_>, from: u64, to: u64) -> Result<u64, DbError> {
    let (mut wanted, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let (mut at, mut written) = (from, 0);
    while at < to {
        let most = usize::try_from(to - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let there = live.read(&mut wanted[..most], at)?;
        if there == 0 {
            // Cut by the game while it runs; in the window nobody can.
            break;
        }
        let wanted = &wanted[..there];
        if copy.read(&mut found[..there], at)? != there || *wanted != found[..there] {
            written += correct(copy, wanted, &found[..there], at)?;
            // What was written is read again: equal is what was seen to be equal.
            let again = copy.read(&mut found[..there], at)?;
            if *wanted != found[..again] {
                let odd = io::Error::other("what was written does not come back when read");
                return Err(DbError::io("write", copy.path)(odd));
            }
        }
        at += there as u64;
    }
    Ok(written)
}

/// Writes the runs of units that differ.
fn correct(copy: &Side<'_>, wanted: &[u8], found: &[u8], at: u64) -> Result<u64, DbError> {
    let differs = |unit: usize| {
        let end = wanted.len().min((unit + 1) * UNIT_BYTES);
        wanted[unit * UNIT_BYTES..end] != found[unit * UNIT_BYTES..end]
    };
    let units = wanted.len().div_ceil(UNIT_BYTES);
    let (mut unit, mut written) = (0, 0);
    while unit < units {
        let run = (unit..units).take_while(|unit| differs(*unit)).count();
        if run > 0 {
            let (begin, end) = (unit * UNIT_BYTES, wanted.len().min((unit + run) * UNIT_BYTES));
            let place = at + begin as u64;
            copy.file
                .write_all_at(&wanted[begin..end], place)
                .map_err(DbError::io("write", copy.path))?;
            written += (end - begin) as u64;
        }
        unit += run + 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn whatever_the_copy_held_it_becomes_equal_and_only_differences_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
        // Longer than a stride, not a multiple of anything.
        let bytes: Vec<u8> =
            (0..STRIDE_BYTES + 12_345).map(|at| u8::try_from(at / 977 % 251).unwrap()).collect();
        fs::write(&live, &bytes).unwrap();
        let equal = |expected: u64| {
            let (from, to) = (hold(&live).unwrap(), open_copy(&copy).unwrap());
            let from = Side { file: &from, path: &live };
            let written = make_equal(&from, &Side { file: &to, path: &copy }, &mut |_| {}).unwrap();
            assert_eq!(written, expected);
            assert!(fs::read(&copy).unwrap() == bytes);
        };
        equal(bytes.len() as u64);
        equal(0);
        let mut other = bytes.clone();
        other[5] ^= 1;
        other[3 * UNIT_BYTES - 1] ^= 1;
        other[BLOCK_BYTES] ^= 1;
        other.truncate(bytes.len() - 1);
        fs::write(&copy, &other).unwrap();
        // Units 0, 2, the first of the second block, and what is left at the end.
        let tail = bytes.len() % UNIT_BYTES;
        equal(3 * UNIT_BYTES as u64 + tail as u64);
        other.extend_from_slice(&[7; 3 * UNIT_BYTES]);
        other[..bytes.len()].copy_from_slice(&bytes);
        fs::write(&copy, &other).unwrap();
        equal(0);
    }

    #[test]
    fn a_database_file_is_opened_once_and_let_go_when_it_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live");
        fs::write(&path, b"x").unwrap();
        let first = hold(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &hold(&path).unwrap()));
        let count = Arc::strong_count(&first);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"y").unwrap();
        assert!(!Arc::ptr_eq(&first, &hold(&path).unwrap()));
        assert_eq!(Arc::strong_count(&first), count - 1);
    }
}
