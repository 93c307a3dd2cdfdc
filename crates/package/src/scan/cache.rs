//! Hashes of files that have not changed since they were last read.
//!
//! A file is taken as unchanged if its size, mtime, ctime and inode are. That is not enough where
//! a file is written twice within one tick of the clock: so an entry whose times are not clearly
//! older than the scan that recorded it is read again (git's "racy" entries).
//!
//! The file is a head (magic, device, time of the scan, hash of the manifest where no paths
//! collide, hash of the folders around skipped paths), then each folder with the hash of the ignore rules that counted in it and
//! its entries by name, then a checksum of it all. A folder is found by its path and then read along
//! with the real one, so that a look at very many files costs no search, no allocation and, under
//! the same rules, no match against a pattern for any of them.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use entracte_model::Hash;
use rustix::fs::Stat;

use super::walk::{Found, Kind};
use crate::{PackageError, files};

/// In the place of the hash of a manifest: not kept.
const NO_HASH: Hash = Hash([0; 32]);
/// Names the format; another one is not read.
const MAGIC: &[u8; 16] = b"entracte-scan-4\n";
/// The coarsest tick of a file system's clock that counts: one jiffy at 100 Hz.
const RACY_NS: i128 = 10_000_000;
/// Magic, device, time of the scan, hash of the manifest, hash of the folders around.
const HEAD_BYTES: usize = 16 + 8 + 16 + 32 + 32;
/// Kind, length of the name, size, inode, mtime, ctime, hash.
const ENTRY_BYTES: usize = 1 + 1 + 8 + 8 + 12 + 12 + 32;
const CHECKSUM_BYTES: usize = 32;

/// By what a file is known not to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    pub inode: u64,
}

/// Seconds since 1970 and nanoseconds, as the file system has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time {
    pub s: i64,
    pub ns: u32,
}

impl Time {
    /// What the kernel gives; nanoseconds are below a thousand million.
    pub(crate) fn new(s: i64, ns: u64) -> Self {
        Self { s, ns: u32::try_from(ns).unwrap_or(u32::MAX) }
    }

    pub(crate) fn total_ns(self) -> i128 {
        i128::from(self.s) * 1_000_000_000 + i128::from(self.ns)
    }

    /// Whether a file with this time is surely as it was at `moment_ns`: not written within the
    /// same tick of the clock, or later.
    pub(crate) fn is_before(self, moment_ns: i128) -> bool {
        self.total_ns() < moment_ns - RACY_NS
    }
}

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: Time::new(stat.st_mtime, stat.st_mtime_nsec),
            ctime: Time::new(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }
}

/// What an earlier scan recorded, in the bytes of its file.
#[derive(Default)]
pub(super) struct Cache<'a> {
    scanned_ns: i128,
    manifest: Option<Hash>,
    around: Option<Hash>,
    folders: HashMap<&'a str, (Hash, &'a [u8])>,
}

/// The recorded entries of one folder, asked for in the order of their names.
pub(super) struct Known<'a> {
    rest: &'a [u8],
    scanned_ns: i128,
    /// Whether the ignore rules are those of then.
    same_rules: bool,
    /// Whether each one so far was asked for, and was the same.
    same: bool,
}

struct Record<'a> {
    name: &'a [u8],
    kind: u8,
    stamp: Stamp,
    hash: Hash,
}

impl<'a> Cache<'a> {
    /// Understands the bytes of a cache. One that is damaged or of another device knows nothing.
    pub(super) fn parse(bytes: &'a [u8], device: u64) -> Self {
        parse(bytes, device).unwrap_or_default()
    }

    /// What is known of the folder `rel`, in which the ignore rules with this hash count.
    pub(super) fn folder(&self, rel: &str, rules: &Hash) -> Option<Known<'a>> {
        let (then, rest) = self.folders.get(rel)?;
        let same_rules = then == rules;
        Some(Known { rest, scanned_ns: self.scanned_ns, same_rules, same: same_rules })
    }

    pub(super) fn folders(&self) -> usize {
        self.folders.len()
    }

    /// The hash of the manifest that was scanned, with these folders around skipped paths in it.
    pub(super) fn manifest(&self, around: &Hash) -> Option<Hash> {
        self.manifest.filter(|_| self.around.as_ref() == Some(around))
    }
}

impl<'a> Known<'a> {
    /// The hash of a file, if it surely is what it was. Whatever the answer, it is noted whether
    /// the folder is as it was.
    pub(super) fn hash_of(&mut self, found: &Found) -> Option<Hash> {
        let record = self.seek(found.name().as_bytes());
        let Some(record) = record.filter(|record| record.kind == code(found)) else {
            self.same = false;
            return None;
        };
        let hash = match &found.kind {
            Kind::File { stamp, .. } => {
                let settled = [record.stamp.mtime, record.stamp.ctime]
                    .iter()
                    .all(|time| time.is_before(self.scanned_ns));
                (record.stamp == *stamp && settled).then_some(record.hash)
            }
            Kind::Dir | Kind::Link { .. } => {
                (record.hash == content(&found.kind)).then_some(record.hash)
            }
        };
        self.same &= hash.is_some();
        hash
    }

    /// Whether an entry is surely part of the tree, as it was under the same ignore rules. One that
    /// was so only because git tracked it is not sure: git may have been told otherwise.
    pub(super) fn is_in(&mut self, name: &[u8], is_dir: bool) -> bool {
        self.pass_over(name);
        let found = record(&mut { self.rest }).filter(|record| record.name == name);
        self.same_rules
            && found.is_some_and(|found| {
                found.kind.is_ascii_lowercase() && is_dir == (found.kind == b'd')
            })
    }

    /// Whether the folder held all that it held, unchanged, and nothing else.
    pub(super) fn is_same(&self) -> bool {
        self.same && self.rest.is_empty()
    }

    /// The record with this name.
    fn seek(&mut self, name: &[u8]) -> Option<Record<'a>> {
        self.pass_over(name);
        let mut rest = self.rest;
        let record = record(&mut rest).filter(|record| record.name == name)?;
        self.rest = rest;
        Some(record)
    }

    /// Passes over the records before `name`: they are no more.
    fn pass_over(&mut self, name: &[u8]) {
        let mut rest = self.rest;
        while record(&mut rest).is_some_and(|record| record.name < name) {
            (self.rest, self.same) = (rest, false);
        }
    }
}

/// What stands for the kind in the file; a capital where only git's tracking makes it part of the
/// tree.
fn code(found: &Found) -> u8 {
    let code = match found.kind {
        Kind::File { exec: false, .. } => b'f',
        Kind::File { exec: true, .. } => b'x',
        Kind::Dir => b'd',
        Kind::Link { .. } => b'l',
    };
    if found.only_tracked { code.to_ascii_uppercase() } else { code }
}

/// What stands in the place of a content hash for what has no content of its own.
fn content(kind: &Kind) -> Hash {
    match kind {
        Kind::Link { target, .. } => Hash::of(target.as_bytes()),
        Kind::File { .. } | Kind::Dir => Hash([0; 32]),
    }
}

/// What a scan knows of itself, for the head of its cache.
pub(super) struct Head {
    pub device: u64,
    pub started: SystemTime,
    /// None of a tree whose paths collide: they are found again each time.
    pub manifest: Option<Hash>,
    pub around: Hash,
}

/// Writes the cache of a scan; `found` is sorted by path, `rules` gives the hash of the ignore rules
/// that count in a folder.
pub(super) fn store(
    path: &Path,
    head: &Head,
    found: &[Found],
    rules: impl Fn(&str) -> Hash,
) -> Result<(), PackageError> {
    let since = head.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_ns = i128::try_from(since.as_nanos()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + found.len() * (ENTRY_BYTES + 24));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&head.device.to_le_bytes());
    bytes.extend_from_slice(&started_ns.to_le_bytes());
    bytes.extend_from_slice(&head.manifest.unwrap_or(NO_HASH).0);
    bytes.extend_from_slice(&head.around.0);
    // Within a folder the order by path is the order by name; folders are between one another.
    let mut by_folder: Vec<&Found> = found.iter().collect();
    by_folder.sort_by_key(|found| found.folder());
    for folder in by_folder.chunk_by(|a, b| a.folder() == b.folder()) {
        let mut body = Vec::with_capacity(folder.len() * (ENTRY_BYTES + 24));
        folder.iter().for_each(|found| write(&mut body, found));
        let rel = folder[0].folder();
        let rules = rules(rel);
        let rel = rel.as_bytes();
        let length = u16::try_from(rel.len()).expect("a RelPath is at most 3,072 bytes long");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&rules.0);
        bytes.extend_from_slice(rel);
        bytes.extend_from_slice(&body);
    }
    let checksum = Hash::of(&bytes);
    bytes.extend_from_slice(&checksum.0);
    files::write_whole(path, &bytes)
}

fn write(body: &mut Vec<u8>, found: &Found) {
    let (stamp, hash) = match found.kind {
        Kind::File { stamp, hash, .. } => (stamp, hash.unwrap_or(Hash([0; 32]))),
        Kind::Dir | Kind::Link { .. } => (Stamp::default(), content(&found.kind)),
    };
    let name = found.name();
    body.push(code(found));
    body.push(u8::try_from(name.len()).expect("a name is at most 255 bytes long"));
    body.extend_from_slice(&stamp.size.to_le_bytes());
    body.extend_from_slice(&stamp.inode.to_le_bytes());
    for time in [stamp.mtime, stamp.ctime] {
        body.extend_from_slice(&time.s.to_le_bytes());
        body.extend_from_slice(&time.ns.to_le_bytes());
    }
    body.extend_from_slice(&hash.0);
    body.extend_from_slice(name.as_bytes());
}

fn parse(bytes: &[u8], device: u64) -> Option<Cache<'_>> {
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
    let manifest = Some(Hash(take(&mut rest)?)).filter(|hash| *hash != NO_HASH);
    let around = Some(Hash(take(&mut rest)?));
    let mut folders = HashMap::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let body_bytes = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
        let rules = Hash(take(&mut rest)?);
        let (rel, after) = rest.split_at_checked(length)?;
        let (body, after) = after.split_at_checked(body_bytes)?;
        rest = after;
        folders.insert(std::str::from_utf8(rel).ok()?, (rules, body));
    }
    Some(Cache { scanned_ns, manifest, around, folders })
}

fn record<'a>(rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let [kind, length] = take(rest)?;
    let stamp = Stamp {
        size: u64::from_le_bytes(take(rest)?),
        inode: u64::from_le_bytes(take(rest)?),
        mtime: Time { s: i64::from_le_bytes(take(rest)?), ns: u32::from_le_bytes(take(rest)?) },
        ctime: Time { s: i64::from_le_bytes(take(rest)?), ns: u32::from_le_bytes(take(rest)?) },
    };
    let hash = Hash(take(rest)?);
    let (name, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(Record { name, kind, stamp, hash })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Hash = Hash([3; 32]);

    fn stamp(mtime_s: i64, ns: u32) -> Stamp {
        let time = Time { s: mtime_s, ns };
        Stamp { size: 5, mtime: time, ctime: time, inode: 7 }
    }

    fn file(path: &str, stamp: Stamp) -> Found {
        let hash = Some(Hash::of(b"hello"));
        let kind = Kind::File { stamp, exec: false, hash };
        Found { path: path.parse().unwrap(), kind, only_tracked: false }
    }

    fn stored(scanned_s: u64, found: &[Found]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let started = UNIX_EPOCH + std::time::Duration::from_secs(scanned_s);
        let head =
            Head { device: 1, started, manifest: Some(Hash([1; 32])), around: Hash([2; 32]) };
        store(&path, &head, found, |_| RULES).unwrap();
        std::fs::read(path).unwrap()
    }

    /// What the cache knows of the one file, and whether its folder is the same.
    fn asked(bytes: &[u8], found: &Found) -> (Option<Hash>, bool) {
        let cache = Cache::parse(bytes, 1);
        let mut known = cache.folder("", &RULES).unwrap();
        let hash = known.hash_of(found);
        (hash, known.is_same())
    }

    #[test]
    fn a_settled_file_is_known_and_any_difference_makes_it_unknown() {
        let stamp = stamp(5, 0);
        let bytes = stored(10, &[file("a.php", stamp)]);
        assert_eq!(asked(&bytes, &file("a.php", stamp)), (Some(Hash::of(b"hello")), true));
        let early = Time { s: 1, ns: 0 };
        for other in [
            Stamp { size: 6, ..stamp },
            Stamp { inode: 8, ..stamp },
            Stamp { ctime: early, ..stamp },
            Stamp { mtime: early, ..stamp },
        ] {
            assert_eq!(asked(&bytes, &file("a.php", other)), (None, false));
        }
        let kind = Kind::File { stamp, exec: true, hash: None };
        let exec = Found { kind, ..file("a.php", stamp) };
        assert_eq!(asked(&bytes, &exec), (None, false));
    }

    #[test]
    fn a_file_as_young_as_the_scan_is_not_trusted() {
        let young = stamp(9, 990_000_000);
        assert_eq!(asked(&stored(10, &[file("a", young)]), &file("a", young)), (None, false));
        let old = stamp(9, 989_999_999);
        assert!(asked(&stored(10, &[file("a", old)]), &file("a", old)).0.is_some());
    }

    #[test]
    fn what_came_and_what_went_makes_a_folder_another() {
        let [a, b, c] = ["a", "b", "c"].map(|name| file(name, stamp(5, 0)));
        let bytes = stored(10, &[a.clone(), c.clone()]);
        let cache = Cache::parse(&bytes, 1);
        let ask = |names: &[&Found]| {
            let mut known = cache.folder("", &RULES).unwrap();
            let hashes = names.iter().filter(|found| known.hash_of(found).is_some()).count();
            (hashes, known.is_same())
        };
        assert_eq!(ask(&[&a, &c]), (2, true));
        assert_eq!(ask(&[&a, &b, &c]), (2, false));
        assert_eq!(ask(&[&c]), (1, false));
        assert_eq!(ask(&[&a]), (1, false));
        assert!(cache.folder("other", &RULES).is_none());
        assert_eq!(cache.manifest(&Hash([2; 32])), Some(Hash([1; 32])));
        assert_eq!(cache.manifest(&Hash([3; 32])), None);
    }

    #[test]
    fn what_was_in_the_tree_still_is_under_the_same_rules() {
        let [plain, mut tracked] = ["a", "b"].map(|name| file(name, stamp(5, 0)));
        tracked.only_tracked = true;
        let bytes = stored(10, &[plain, tracked]);
        let cache = Cache::parse(&bytes, 1);
        let ask = |rules: &Hash| {
            let mut known = cache.folder("", rules).unwrap();
            ["a", "b", "c"].map(|name| known.is_in(name.as_bytes(), false))
        };
        assert_eq!(ask(&RULES), [true, false, false]);
        assert_eq!(ask(&Hash([4; 32])), [false; 3]);
        assert!(!cache.folder("", &RULES).unwrap().is_in(b"a", true), "a folder now");
    }

    #[test]
    fn a_damaged_cut_or_foreign_cache_knows_nothing() {
        let bytes = stored(10, &[file("a.php", stamp(5, 0))]);
        assert!(parse(&bytes, 2).is_none());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(parse(&bad, 1).is_none(), "byte {at}");
            assert!(parse(&bytes[..at], 1).is_none(), "cut at {at}");
        }
    }
}
