//! Hashes of files that have not changed since they were last read.
//!
//! A file is taken as unchanged if its size, mtime, ctime and inode are. That is not enough where
//! a file is written twice within one tick of the clock: so an entry whose times are not clearly
//! older than the scan that recorded it is read again (git's "racy" entries).

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use entracte_model::{Hash, RelPath};

use super::hashing::Hashed;
use crate::{PackageError, files};

/// Names the format; another one is not read.
const MAGIC: &[u8; 16] = b"entracte-scan-1\n";
/// The coarsest tick of a file system's clock that counts: one jiffy at 100 Hz.
const RACY_NS: i128 = 10_000_000;
/// Magic, device, time of the scan.
const HEAD_BYTES: usize = 16 + 8 + 16;
/// Length of the path, size, inode, mtime, ctime, hash.
const ENTRY_BYTES: usize = 2 + 8 + 8 + 16 + 16 + 32;
const CHECKSUM_BYTES: usize = 32;

/// By what a file is known not to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }
}

/// What an earlier scan recorded.
#[derive(Default)]
pub(super) struct Cache {
    scanned_ns: i128,
    entries: HashMap<Vec<u8>, (Stamp, Hash)>,
}

impl Cache {
    /// Reads a cache. One that is missing, damaged or of another device knows nothing.
    pub(super) fn load(path: &Path, device: u64) -> Self {
        fs::read(path).ok().and_then(|bytes| parse(&bytes, device)).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The hash of a file, if it surely is what it was.
    pub(super) fn hash_of(&self, path: &RelPath, stamp: &Stamp) -> Option<Hash> {
        let (known, hash) = self.entries.get(path.as_str().as_bytes())?;
        let settled = self.scanned_ns - RACY_NS;
        (known == stamp && known.mtime_ns < settled && known.ctime_ns < settled).then_some(*hash)
    }
}

/// Writes the cache of a scan that began at `started`.
pub(super) fn store(
    path: &Path,
    device: u64,
    started: SystemTime,
    files: &[Hashed],
) -> Result<(), PackageError> {
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_ns = i128::try_from(since.as_nanos()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + files.len() * (ENTRY_BYTES + 48));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&device.to_le_bytes());
    bytes.extend_from_slice(&started_ns.to_le_bytes());
    for Hashed { file, hash } in files {
        let path = file.path.as_str().as_bytes();
        let length = u16::try_from(path.len()).expect("a RelPath is at most 3,072 bytes long");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&file.stamp.size.to_le_bytes());
        bytes.extend_from_slice(&file.stamp.inode.to_le_bytes());
        bytes.extend_from_slice(&file.stamp.mtime_ns.to_le_bytes());
        bytes.extend_from_slice(&file.stamp.ctime_ns.to_le_bytes());
        bytes.extend_from_slice(&hash.0);
        bytes.extend_from_slice(path);
    }
    let checksum = Hash::of(&bytes);
    bytes.extend_from_slice(&checksum.0);
    files::write_whole(path, &bytes)
}

fn parse(bytes: &[u8], device: u64) -> Option<Cache> {
    let body_bytes = bytes.len().checked_sub(CHECKSUM_BYTES)?;
    let (body, checksum) = bytes.split_at(body_bytes);
    if Hash::of(body).0 != checksum {
        return None;
    }
    let mut rest = body;
    if take::<16>(&mut rest)? != *MAGIC || u64::from_le_bytes(take(&mut rest)?) != device {
        return None;
    }
    let scanned_ns = i128::from_le_bytes(take(&mut rest)?);
    let mut entries = HashMap::with_capacity(rest.len() / (ENTRY_BYTES + 48));
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let stamp = Stamp {
            size: u64::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            mtime_ns: i128::from_le_bytes(take(&mut rest)?),
            ctime_ns: i128::from_le_bytes(take(&mut rest)?),
        };
        let hash = Hash(take(&mut rest)?);
        let (path, after) = rest.split_at_checked(length)?;
        rest = after;
        entries.insert(path.to_vec(), (stamp, hash));
    }
    Some(Cache { scanned_ns, entries })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::walk::Found;

    const SECOND_NS: i128 = 1_000_000_000;

    fn stamp(mtime_ns: i128) -> Stamp {
        Stamp { size: 5, mtime_ns, ctime_ns: mtime_ns, inode: 7 }
    }

    fn stored(scanned_s: u64, stamp: Stamp) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let started = UNIX_EPOCH + std::time::Duration::from_secs(scanned_s);
        let file = Found { path: "a.php".parse().unwrap(), stamp, exec: false };
        store(&path, 1, started, &[Hashed { file, hash: Hash::of(b"hello") }]).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn a_settled_file_is_known_and_any_difference_makes_it_unknown() {
        let stamp = stamp(5 * SECOND_NS);
        let cache = parse(&stored(10, stamp), 1).unwrap();
        let path = "a.php".parse().unwrap();
        assert_eq!(cache.hash_of(&path, &stamp), Some(Hash::of(b"hello")));
        assert_eq!(cache.hash_of(&path, &Stamp { size: 6, ..stamp }), None);
        assert_eq!(cache.hash_of(&path, &Stamp { inode: 8, ..stamp }), None);
        assert_eq!(cache.hash_of(&path, &Stamp { ctime_ns: 1, ..stamp }), None);
    }

    #[test]
    fn a_file_as_young_as_the_scan_is_not_trusted() {
        let young = stamp(10 * SECOND_NS - RACY_NS);
        let cache = parse(&stored(10, young), 1).unwrap();
        assert_eq!(cache.hash_of(&"a.php".parse().unwrap(), &young), None);
        let old = stamp(10 * SECOND_NS - RACY_NS - 1);
        let cache = parse(&stored(10, old), 1).unwrap();
        assert!(cache.hash_of(&"a.php".parse().unwrap(), &old).is_some());
    }

    #[test]
    fn a_damaged_cut_or_foreign_cache_knows_nothing() {
        let bytes = stored(10, stamp(5 * SECOND_NS));
        assert!(parse(&bytes, 2).is_none());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(parse(&bad, 1).is_none(), "byte {at}");
            assert!(parse(&bytes[..at], 1).is_none(), "cut at {at}");
        }
    }
}
