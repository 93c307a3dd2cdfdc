//! Hashing many files on two threads.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use entracte_model::Hash;

use super::cache::Stamp;
use super::walk::Found;
use super::{Reason, Refused};
use crate::error::At;
use crate::{PackageError, Progress, files};

/// Threads that read: more would only fight for the disk of a game's machine.
const THREADS: usize = 2;
/// How often a file is read again that was written to meanwhile.
const READS_MAX: u32 = 3;

/// A file with its hash.
pub(super) struct Hashed {
    pub file: Found,
    pub hash: Hash,
}

type Outcome = (usize, Result<Option<(Stamp, Hash)>, PackageError>);

/// Hashes all `found` files. Those that never hold still, or are no longer files, are refused.
pub(super) fn all(
    root: &Path,
    found: Vec<Found>,
    refused: &mut Vec<Refused>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Hashed>, PackageError> {
    let next = AtomicUsize::new(0);
    let total: u64 = found.iter().map(|file| file.stamp.size).sum();
    let mut outcomes = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<Outcome>();
        for _ in 0..THREADS.min(found.len()) {
            let (sender, next, found) = (sender.clone(), &next, &found);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = found.get(at) else { return };
                    // The receiver lives until all threads end; nobody is left to tell otherwise.
                    let _ = sender.send((at, one(&root.join(&file.path))));
                }
            });
        }
        drop(sender);
        let mut done = 0;
        let mut outcomes = Vec::with_capacity(found.len());
        for outcome in receiver {
            let file = &found[outcome.0];
            done += file.stamp.size;
            progress(Progress { done, total, unit: "bytes", note: file.path.to_string() });
            outcomes.push(outcome);
        }
        outcomes
    });
    outcomes.sort_by_key(|(at, _)| *at);
    let mut hashed = Vec::with_capacity(found.len());
    for (mut file, (_, outcome)) in found.into_iter().zip(outcomes) {
        match outcome? {
            Some((stamp, hash)) => {
                file.stamp = stamp;
                hashed.push(Hashed { file, hash });
            }
            None => {
                refused.push(Refused { path: file.path.to_string(), why: Reason::Changing });
            }
        }
    }
    Ok(hashed)
}

/// The stamp and hash of a file that held still while it was read; `None` where it did not.
fn one(path: &Path) -> Result<Option<(Stamp, Hash)>, PackageError> {
    for _ in 0..READS_MAX {
        // Not through a link, and not waiting for a FIFO that took the file's place.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("open flags fit the type that open takes");
        let mut file: File =
            OpenOptions::new().read(true).custom_flags(flags).open(path).at("open", path)?;
        let before = file.metadata().at("look at", path)?;
        if !before.is_file() {
            return Ok(None);
        }
        let (size, hash) = files::hash_into(&mut file, |_| Ok(()), path)?;
        let before = Stamp::of(&before);
        let after = Stamp::of(&file.metadata().at("look at", path)?);
        if before == after && size == after.size {
            return Ok(Some((after, hash)));
        }
    }
    Ok(None)
}
