//! Hashing many files on two threads.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use entracte_model::{Hash, RelPath};
use rustix::fs::{FileType, fstat};

use super::cache::Stamp;
use crate::error::At;
use crate::{PackageError, Progress, files};

/// Threads that read: more would only fight for the disk of a game's machine.
const THREADS: usize = 2;
/// How often a file is read again that was written to meanwhile.
const READS_MAX: u32 = 3;

/// The stamp and the hash of a file; none where it never held still, or is no longer a file.
pub(super) type Hashed = Option<(Stamp, Hash)>;

/// Hashes all `files`, which had these sizes in bytes when they were found; in their order.
pub(super) fn all(
    root: &Path,
    files: &[(&RelPath, u64)],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Hashed>, PackageError> {
    let next = AtomicUsize::new(0);
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let mut outcomes = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..THREADS.min(files.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((path, _)) = files.get(at) else { return };
                    // The receiver lives until all threads end; nobody is left to tell otherwise.
                    let _ = sender.send((at, one(&root.join(path))));
                }
            });
        }
        drop(sender);
        let mut done = 0;
        let mut outcomes = Vec::with_capacity(files.len());
        for (at, outcome) in receiver {
            let (path, size) = files[at];
            done += size;
            progress(Progress { done, total, unit: "bytes", note: path.to_string() });
            outcomes.push((at, outcome));
        }
        outcomes
    });
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The stamp and hash of a file that held still while it was read.
fn one(path: &Path) -> Result<Hashed, PackageError> {
    for _ in 0..READS_MAX {
        // Not through a link, and not waiting for a FIFO that took the file's place.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("open flags fit the type that open takes");
        let mut file: File =
            OpenOptions::new().read(true).custom_flags(flags).open(path).at("open", path)?;
        let before = fstat(&file).at("look at", path)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let (size, hash) = files::hash_into(&mut file, |_| Ok(()), path)?;
        let before = Stamp::of(&before);
        let after = Stamp::of(&fstat(&file).at("look at", path)?);
        if before == after && size == after.size {
            return Ok(Some((after, hash)));
        }
    }
    Ok(None)
}
