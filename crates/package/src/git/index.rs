//! Whether a tree surely is as it was committed, read from git's index without asking git.
//!
//! `git status` looks at each file once, and so does a scan: asked one after the other, both would
//! be paid. The index says of each tracked file by which size, times and inode it is known to be
//! unchanged, and of which tree object all of it is. So a scan can tell that nothing was forgotten
//! without a second look. It never tells more than that: with any difference, and wherever the
//! index has something that is not understood here, the answer is "not surely", and git is asked.
//!
//! Format: <https://git-scm.com/docs/index-format>; what its times are worth:
//! <https://git-scm.com/docs/racy-git>.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, fstat, statat};

use crate::scan::{Found, Kind, Stamp, Time};

/// Stands before the version (2 to 4) and the number of entries.
const MAGIC: &[u8; 4] = b"DIRC";
/// Flags of an entry: assumed unchanged, and the two bits of a merge's stage.
const NOT_PLAIN: u16 = 0x8000 | 0x3000;
/// Flag of an entry: more flags follow.
const EXTENDED: u16 = 0x4000;
/// The bits of the flags that are the length of the path, or all of them where it is longer.
const LENGTH: u16 = 0x0fff;
/// What stands before the id of an entry, in bytes.
const TIMES_BYTES: usize = 40;
/// What `mode` is for a file, for one that can be executed, and for a link.
const MODES: [u32; 3] = [0o100_644, 0o100_755, 0o120_000];

/// By what a tracked file is known to be as it was when git last read it.
struct Entry {
    ctime: [u32; 2],
    mtime: [u32; 2],
    inode: u32,
    mode: u32,
    size: u32,
}

/// An index as it was read.
pub(crate) struct Index {
    bytes: Vec<u8>,
    written_ns: i128,
}

impl Index {
    /// Reads the index at `file`; none where that cannot be.
    pub(super) fn read(file: &Path) -> Option<Self> {
        let mut file = File::open(file).ok()?;
        let meta = fstat(&file).ok()?;
        let mut bytes = Vec::with_capacity(usize::try_from(meta.st_size).ok()?.checked_add(1)?);
        file.read_to_end(&mut bytes).ok()?;
        let written_ns = Time::new(meta.st_mtime, meta.st_mtime_nsec).total_ns();
        Some(Self { bytes, written_ns })
    }

    /// Whether the index is of the object `tree` (hexadecimal digits), and `found` (sorted by path)
    /// is exactly what it holds below `prefix`, which is checked out at `root`. Tracked files that
    /// were not found are looked at: the game's tree may leave them out.
    pub(super) fn holds_exactly(
        &self,
        tree: &str,
        prefix: &Path,
        root: &Path,
        found: &[Found],
    ) -> bool {
        self.surely(tree, prefix, root, found).is_some()
    }

    /// In two halves at the same time: what it takes is to fetch all of both lists from memory.
    fn surely(&self, tree: &str, prefix: &Path, root: &Path, found: &[Found]) -> Option<()> {
        let tree = hex(tree)?;
        let body = self.bytes.get(..self.bytes.len().checked_sub(tree.len())?)?;
        let mut prefix = prefix.as_os_str().as_bytes().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let (first, second) = Entries::of(body, tree.len())?.in_two()?;
        let border = second.clone().next()?.map_or(found.len(), |(path, _)| {
            match path.strip_prefix(prefix.as_slice()) {
                Some(path) => found.partition_point(|found| found.path.as_str().as_bytes() < path),
                None if prefix.as_slice() < path => found.len(),
                None => 0,
            }
        });
        let (before, after) = found.split_at(border);
        let hold = |entries, found| self.all_are(entries, &prefix, root, found);
        let extensions = std::thread::scope(|scope| {
            let second = scope.spawn(|| hold(second, after));
            hold(first, before)?;
            second.join().ok()?
        })?;
        (root_of(extensions, tree.len())? == tree).then_some(())
    }

    /// What follows `entries`, if `found` is exactly what they hold.
    fn all_are<'a>(
        &self,
        mut entries: Entries<'a>,
        prefix: &[u8],
        root: &Path,
        found: &[Found],
    ) -> Option<&'a [u8]> {
        let mut found = found.iter().filter(|found| !matches!(found.kind, Kind::Dir)).peekable();
        while let Some((path, entry)) = entries.next()? {
            let Some(path) = path.strip_prefix(prefix) else { continue };
            let same = match found.peek().map(|found| found.path.as_str().as_bytes().cmp(path)) {
                // Found, and not tracked.
                Some(Ordering::Less) => false,
                Some(Ordering::Equal) => {
                    found.next().is_some_and(|found| entry.is(found, self.written_ns))
                }
                Some(Ordering::Greater) | None => {
                    entry.stands_at(&root.join(OsStr::from_bytes(path)), self.written_ns)
                }
            };
            if !same {
                return None;
            }
        }
        found.next().is_none().then_some(entries.rest)
    }
}

/// The entries of an index, one after the other.
#[derive(Clone)]
struct Entries<'a> {
    /// The next entry and all behind it.
    rest: &'a [u8],
    version: u32,
    /// How many come.
    left: u32,
    id_bytes: usize,
    /// Of the last one.
    path: Vec<u8>,
}

impl<'a> Entries<'a> {
    fn of(bytes: &'a [u8], id_bytes: usize) -> Option<Self> {
        let mut rest = bytes;
        let magic = take::<4>(&mut rest)?;
        let [version, left] = [number(&mut rest)?, number(&mut rest)?];
        let is_known = magic == *MAGIC && (2..=4).contains(&version);
        is_known.then(|| Self { rest, version, left, id_bytes, path: Vec::new() })
    }

    /// The first half and the second, as far as one can be found without reading all before it:
    /// each path of version 4 builds upon the last.
    fn in_two(mut self) -> Option<(Self, Self)> {
        let ahead = if self.version == 4 { 0 } else { self.left / 2 };
        let mut first = Self { left: ahead, ..self.clone() };
        for _ in 0..ahead {
            let flags = self.rest.get(TIMES_BYTES + self.id_bytes..)?.first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*flags) & LENGTH);
            if length == usize::from(LENGTH) || u16::from_be_bytes(*flags) & EXTENDED != 0 {
                // Its length is not said there.
                first.left = 0;
                return Some((first.clone(), Self { left: self.left, ..first }));
            }
            let bytes = TIMES_BYTES + self.id_bytes + 2 + length;
            self.rest = self.rest.get(bytes + 8 - bytes % 8..)?;
        }
        Some((first, Self { left: self.left - ahead, ..self }))
    }

    /// The next one with its path; `Some(None)` after the last. None where something is not
    /// understood, or makes the matter unsure: a merge, files that are assumed to be unchanged,
    /// left out or only intended to be added.
    fn next(&mut self) -> Option<Option<(&[u8], Entry)>> {
        let Some(left) = self.left.checked_sub(1) else { return Some(None) };
        let mut rest = self.rest;
        let mut next = || number(&mut rest);
        let (ctime, mtime) = ([next()?, next()?], [next()?, next()?]);
        let [_device, inode, mode, _user, _group, size] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        rest = rest.get(self.id_bytes..)?;
        let flags = u16::from_be_bytes(take(&mut rest)?);
        let more = if flags & EXTENDED != 0 { u16::from_be_bytes(take(&mut rest)?) } else { 0 };
        if flags & NOT_PLAIN != 0 || more != 0 || !MODES.contains(&mode) {
            return None;
        }
        let packed = self.version == 4;
        let kept = if packed { self.path.len().checked_sub(varint(&mut rest)?)? } else { 0 };
        self.path.truncate(kept);
        let length = match usize::from(flags & LENGTH) {
            said if !packed && said < usize::from(LENGTH) => said,
            _ => rest.iter().position(|byte| *byte == 0)?,
        };
        self.path.extend_from_slice(rest.get(..length)?);
        // Before version 4, NULs fill up to a multiple of eight bytes; at least one is there.
        let read = self.rest.len() - rest.len() + length;
        let filling = if packed { 1 } else { 8 - read % 8 };
        (self.rest, self.left) = (rest.get(length + filling..)?, left);
        Some(Some((&self.path, Entry { ctime, mtime, inode, mode, size })))
    }
}

/// The object of the whole tree that an index is of, from the extension that caches it; none where
/// something was staged since, or where there is an extension without which it cannot be
/// understood (those have small names).
fn root_of(mut extensions: &[u8], id_bytes: usize) -> Option<&[u8]> {
    let mut root = None;
    while !extensions.is_empty() {
        let name = take::<4>(&mut extensions)?;
        let length = usize::try_from(number(&mut extensions)?).ok()?;
        let (body, after) = extensions.split_at_checked(length)?;
        extensions = after;
        if name == *b"TREE" {
            // An empty path, NUL, the number of entries (-1: not valid), of trees below, the id.
            let rest = body.strip_prefix(b"\0")?;
            let line = rest.iter().position(|byte| *byte == b'\n')?;
            let valid = rest[..line].first()?.is_ascii_digit();
            root = rest.get(line + 1..line + 1 + id_bytes).filter(|_| valid);
        } else if !name[0].is_ascii_uppercase() {
            return None;
        }
    }
    root
}

impl Entry {
    /// Whether what a scan found is surely this.
    fn is(&self, found: &Found, written_ns: i128) -> bool {
        match &found.kind {
            Kind::File { stamp, exec, .. } => {
                let mode = if *exec { MODES[1] } else { MODES[0] };
                self.mode == mode && self.fits(stamp, written_ns)
            }
            Kind::Link { stamp, .. } => self.mode == MODES[2] && self.fits(stamp, written_ns),
            Kind::Dir => false,
        }
    }

    /// Whether what stands at `path` is surely this.
    fn stands_at(&self, path: &Path, written_ns: i128) -> bool {
        let Ok(stat) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let mode = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_mode & 0o100 != 0 => MODES[1],
            FileType::RegularFile => MODES[0],
            FileType::Symlink => MODES[2],
            _ => return false,
        };
        self.mode == mode && self.fits(&Stamp::of(&stat), written_ns)
    }

    /// Whether size, times and inode are as in the index, which keeps their lower 32 bits. A file
    /// that is as young as the index could have been written once more within the same tick. Who
    /// owns it, and what one may do with it, does not change without its ctime.
    fn fits(&self, stamp: &Stamp, written_ns: i128) -> bool {
        let time = |time: Time| [low(time.s.cast_unsigned()), time.ns];
        self.size == low(stamp.size)
            && self.inode == low(stamp.inode)
            && self.mtime == time(stamp.mtime)
            && self.ctime == time(stamp.ctime)
            && stamp.mtime.is_before(written_ns)
            && stamp.ctime.is_before(written_ns)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the index keeps the lower 32 bits")]
fn low(number: u64) -> u32 {
    number as u32
}

/// A number with the most significant seven bits first; each further byte counts from one.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    let [mut byte] = take(rest)?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        [byte] = take(rest)?;
        value = value.checked_add(1)?.checked_mul(128)? + usize::from(byte & 0x7f);
    }
    Some(value)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_be_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}
