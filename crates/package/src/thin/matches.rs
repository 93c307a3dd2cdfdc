//! What a new content has in common with an old one, found without holding either in memory.
//!
//! Of the old content, the hash of a short window is known at every so many bytes. A hash that rolls
//! over the new content finds these windows wherever they have moved to, and from each the common
//! stretch is followed in both directions, byte by byte. So any stretch that is longer than a step and
//! a window is found, whatever was put in or taken out before it.
//!
//! The rolling hash is the gear hash (Xia et al., "Ddelta: a deduplication-inspired fast delta
//! compression approach", 2014): each byte shifts the ones before it by one bit, so that after 64
//! bytes nothing is left of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use entracte_model::Hash;

use super::patch;
use crate::files::CHUNK_BYTES;

/// The bytes that a hash is of: as many as it has bits.
const WINDOW: usize = 64;
/// Between two windows of the old content, in bytes: at least so much, a power of two.
const STEP_BYTES_MIN: u64 = 256;
/// At most so much: a chunk that is read holds whole steps.
const STEP_BYTES_MAX: u64 = READ_BYTES as u64;
/// About how many windows are known: more would not stay in the processor's caches.
const WINDOWS: u64 = 1 << 17;
/// What is read of the old content at a time.
const READ_BYTES: usize = 1024 * 1024;
/// What is held of the new content: the longest stretch of it that is said at once.
const HELD_BYTES: usize = 256 * 1024;
/// What is compared at first: most stretches are short or very long.
const FIRST_BYTES: usize = 4 * 1024;
/// How many places are looked at for one hash.
const PROBES: usize = 8;
/// Bits of the filter for each place: nearly all hashes are of nothing, and which are not must be
/// foreseen by the processor.
const FILTER_BITS: usize = 16;

/// A content that can be read anywhere.
pub(super) trait Old {
    /// Its length in bytes.
    fn size(&self) -> u64;
    /// Reads from byte `at` on; fewer bytes than asked for only at the end.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl Old for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// A content in a file.
pub(super) struct Stored {
    pub file: File,
    /// Where in the file it begins.
    pub from: u64,
    pub size: u64,
}

impl Old for Stored {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(at);
        let want = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < want {
            match self.file.read_at(&mut into[done..want], self.from + at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

/// Where in an old content each of its windows is.
pub(super) struct Index {
    step: u64,
    /// Upper half of a window's hash, and its number plus one; 0 is none.
    slots: Vec<(u32, u32)>,
    /// One bit for each hash that may be known.
    filter: Vec<u64>,
    shift: u32,
}

impl Index {
    /// Reads the whole old content; gives its hash too.
    pub(super) fn of(old: &dyn Old) -> io::Result<(Self, Hash)> {
        let mut index = Self::empty(old.size());
        let mut hasher = blake3::Hasher::new();
        let length = usize::try_from(old.size()).unwrap_or(READ_BYTES).clamp(1, READ_BYTES);
        let mut buffer = vec![0; length];
        let mut at = 0;
        loop {
            let count = old.read_at(at, &mut buffer)?;
            if count == 0 {
                return Ok((index, hasher.finalize().into()));
            }
            hasher.update(&buffer[..count]);
            index.add(at, &buffer[..count]);
            at += count as u64;
        }
    }

    /// Of a content in memory.
    pub(super) fn of_bytes(old: &[u8]) -> Self {
        let mut index = Self::empty(old.len() as u64);
        index.add(0, old);
        index
    }

    fn empty(size: u64) -> Self {
        let step = (size / WINDOWS).next_power_of_two().clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        let windows = usize::try_from(size / step + 1).unwrap_or(usize::MAX);
        let slots = (2 * windows).next_power_of_two().max(64 / FILTER_BITS);
        let bits = slots * FILTER_BITS;
        Self {
            step,
            slots: vec![(0, 0); slots],
            filter: vec![0; bits / 64],
            shift: 64 - bits.ilog2(),
        }
    }

    /// Adds what is from byte `at` on, which begins a step.
    fn add(&mut self, at: u64, bytes: &[u8]) {
        let stride = usize::try_from(self.step).unwrap_or(usize::MAX);
        for (number, window) in (at / self.step..).zip(bytes.chunks(stride)) {
            if let (Some(window), Ok(number)) = (window.get(..WINDOW), u32::try_from(number)) {
                self.put(window.iter().fold(0, gear), number);
            }
        }
    }

    fn put(&mut self, hash: u64, number: u32) {
        let bit = self.bit(hash);
        self.filter[bit / 64] |= 1 << (bit % 64);
        let (tag, first, mask) = self.place(hash);
        for probe in 0..PROBES {
            let slot = &mut self.slots[(first + probe) & mask];
            // The first of equal windows stands for all of them.
            if slot.1 == 0 {
                *slot = (tag, number + 1);
                return;
            }
            if slot.0 == tag {
                return;
            }
        }
    }

    /// Where in the old content a window of this hash begins, perhaps.
    fn get(&self, hash: u64) -> Option<u64> {
        let bit = self.bit(hash);
        if self.filter[bit / 64] & (1 << (bit % 64)) == 0 { None } else { self.find(hash) }
    }

    #[inline(never)]
    fn find(&self, hash: u64) -> Option<u64> {
        let (tag, first, mask) = self.place(hash);
        for probe in 0..PROBES {
            match self.slots[(first + probe) & mask] {
                (_, 0) => return None,
                (found, number) if found == tag => return Some(u64::from(number - 1) * self.step),
                _ => {}
            }
        }
        None
    }

    fn bit(&self, hash: u64) -> usize {
        // The lower bits depend on the last bytes only: all are mixed (Fibonacci hashing).
        usize::try_from(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift).unwrap_or(0)
    }

    fn place(&self, hash: u64) -> (u32, usize, usize) {
        let tag = u32::try_from(hash >> 32).unwrap_or(0);
        (tag, self.bit(hash) / FILTER_BITS, self.slots.len() - 1)
    }
}

fn gear(hash: u64, byte: &u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[usize::from(*byte)])
}

/// A random number for each byte: splitmix64 (Steele, Lea, Flood 2014).
static GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state: u64 = 0;
    let mut byte = 0;
    while byte < table.len() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        table[byte] = mixed ^ (mixed >> 31);
        byte += 1;
    }
    table
};

/// Writes the instructions that make `new` of `old` to `out`; gives how many bytes they copy.
pub(super) fn write(
    old: &dyn Old,
    index: &Index,
    new: &mut dyn Read,
    out: &mut dyn Write,
) -> io::Result<u64> {
    let mut finder = Finder {
        old,
        index,
        held: vec![0; HELD_BYTES],
        said: 0,
        at: 0,
        end: 0,
        hash: 0,
        fed: 0,
        other: vec![0; CHUNK_BYTES],
        copied: 0,
    };
    finder.all(new, out)?;
    Ok(finder.copied)
}

struct Finder<'a> {
    old: &'a dyn Old,
    index: &'a Index,
    /// What was read of the new content.
    held: Vec<u8>,
    /// Up to where instructions give what is held.
    said: usize,
    /// Up to where it was looked at.
    at: usize,
    /// Up to where it was read.
    end: usize,
    /// Of the window that ends at `at`.
    hash: u64,
    /// How many bytes the hash has seen: with fewer than a window it says nothing.
    fed: usize,
    /// The old content, to compare with.
    other: Vec<u8>,
    copied: u64,
}

impl Finder<'_> {
    fn all(&mut self, new: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
        while self.at < self.end || self.more(new, out)? {
            if let Some(place) = self.look() {
                self.follow(place, new, out)?;
            }
        }
        match self.said < self.end {
            true => patch::put(out, &self.held[self.said..self.end], None),
            false => Ok(()),
        }
    }

    /// Reads more of the new content; `false` at its end.
    fn more(&mut self, new: &mut dyn Read, out: &mut dyn Write) -> io::Result<bool> {
        if self.end == self.held.len() {
            if self.said == 0 {
                patch::put(out, &self.held[..self.end], None)?;
                self.said = self.end;
            }
            self.held.copy_within(self.said..self.end, 0);
            self.at -= self.said;
            self.end -= self.said;
            self.said = 0;
        }
        loop {
            match new.read(&mut self.held[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks at what is held until something is known; gives where in the old content that may be.
    fn look(&mut self) -> Option<u64> {
        let bytes = &self.held[self.at..self.end];
        let blind = bytes.len().min((WINDOW - 1).saturating_sub(self.fed));
        let mut hash = bytes[..blind].iter().fold(self.hash, gear);
        for (passed, byte) in (blind + 1..).zip(&bytes[blind..]) {
            hash = gear(hash, byte);
            if let Some(place) = self.index.get(hash) {
                self.hash = hash;
                self.fed += passed;
                self.at += passed;
                return Some(place);
            }
        }
        self.hash = hash;
        self.fed += bytes.len();
        self.at = self.end;
        None
    }

    /// The window that ends at `at` may be the old one at `place`: says the whole stretch that is
    /// common to both, if there is one.
    fn follow(&mut self, place: u64, new: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
        let Some(window) = self.at.checked_sub(WINDOW).filter(|window| *window >= self.said) else {
            return Ok(());
        };
        let ahead = self.common(window, place, FIRST_BYTES)?;
        if ahead < WINDOW {
            return Ok(());
        }
        let behind = self.common_before(window, place)?;
        let begin = place - behind as u64;
        patch::literal(out, &self.held[self.said..window - behind])?;
        let mut length = (behind + ahead) as u64;
        self.at = window + ahead;
        loop {
            self.said = self.at;
            if self.at == self.end {
                // All of it is said: the whole buffer is free.
                (self.said, self.at, self.end) = (0, 0, 0);
                if !self.more(new, out)? {
                    break;
                }
            }
            let ahead = self.common(self.at, begin + length, CHUNK_BYTES)?;
            if ahead == 0 {
                break;
            }
            length += ahead as u64;
            self.at += ahead;
        }
        (self.hash, self.fed) = (0, 0);
        self.copied += length;
        patch::copy(out, length, begin)
    }

    /// How many bytes from `at` on are those of the old content from `place` on; looks at `max`.
    fn common(&mut self, at: usize, place: u64, max: usize) -> io::Result<usize> {
        let new = &self.held[at..self.end];
        let want = new.len().min(max);
        let count = self.old.read_at(place, &mut self.other[..want])?;
        Ok(alike(&new[..count], &self.other[..count]))
    }

    /// How many bytes before `at` are those of the old content before `place`.
    fn common_before(&mut self, at: usize, place: u64) -> io::Result<usize> {
        let mut before = 0;
        loop {
            let left = usize::try_from(place).unwrap_or(usize::MAX) - before;
            let want = left.min(at - before - self.said).min(FIRST_BYTES);
            let from = place - (before + want) as u64;
            let count = self.old.read_at(from, &mut self.other[..want])?;
            if want == 0 || count < want {
                return Ok(before);
            }
            let new = &self.held[at - before - want..at - before];
            let pairs = new.iter().rev().zip(self.other[..want].iter().rev());
            let same = pairs.take_while(|(new, old)| new == old).count();
            before += same;
            if same < want {
                return Ok(before);
            }
        }
    }
}

/// How many bytes two stretches of the same length begin with alike.
fn alike(a: &[u8], b: &[u8]) -> usize {
    const LONG: usize = 1_024;
    let whole = a.chunks(LONG).zip(b.chunks(LONG)).take_while(|(a, b)| a == b);
    let same: usize = whole.map(|(a, _)| a.len()).sum();
    let rest = a[same..].iter().zip(&b[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

/// The instructions that make `new` of `old`, which are tried out, and how much they copy.
#[cfg(any(test, feature = "fuzz"))]
fn tried(old: &[u8], new: &[u8]) -> (Vec<u8>, u64) {
    let (index, hash) = Index::of(&old).expect("memory can be read");
    assert_eq!(hash, Hash::of(old));
    let mut out = Vec::new();
    let copied = write(&old, &index, &mut &new[..], &mut out).expect("memory can be written");
    let (made, rest) = made(old, &out, new.len() as u64);
    assert!(made == new, "another content was made");
    assert!(rest.expect("an end").is_empty());
    (out, copied)
}

/// What `instructions` make of `old`, up to `left` bytes, and what is behind them.
#[cfg(any(test, feature = "fuzz"))]
fn made<'i>(
    old: &[u8],
    instructions: &'i [u8],
    left: u64,
) -> (Vec<u8>, Result<&'i [u8], super::BadThin>) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(old).expect("it can be written");
    let hash = Hash::of(old);
    let mut patched = patch::Patched::new(instructions, (&file, old.len() as u64), hash, left);
    let mut made = Vec::new();
    // What is wrong with them shows in what was made.
    let _ = patched.read_to_end(&mut made);
    (made, patched.end())
}

/// Two contents, of which the first two bytes of `bytes` tell where the second begins; and the second
/// as instructions.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((length, both)) = bytes.split_first_chunk::<2>() else { return };
    let (old, new) = both.split_at(both.len().min(u16::from_le_bytes(*length).into()));
    tried(old, new);
    let left = 2 * bytes.len() as u64;
    assert!(made(old, new, left).0.len() as u64 <= left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::tests::Numbers;

    impl Numbers {
        fn bytes(&mut self, count: usize, kinds: usize) -> Vec<u8> {
            (0..count).map(|_| u8::try_from(self.below(kinds)).unwrap()).collect()
        }
    }

    #[test]
    fn whatever_was_edited_comes_back_and_little_else_is_said() {
        let mut numbers = Numbers(7);
        for round in 0..60 {
            // Noise, and text of few letters, in which short stretches are everywhere.
            let kinds = [256, 4][round % 2];
            let length = 20_000 + numbers.below(1_500_000);
            let old = numbers.bytes(length, kinds);
            let mut new = old.clone();
            let (mut said, edits) = (0, 1 + numbers.below(12));
            for _ in 0..edits {
                let (at, count) = (numbers.below(new.len()), numbers.below(3_000));
                match numbers.below(4) {
                    0 => drop(new.drain(at..(at + count).min(new.len()))),
                    1 => new.rotate_left(at),
                    kind => {
                        let end = if kind == 2 { at } else { (at + count).min(new.len()) };
                        new.splice(at..end, numbers.bytes(count, kinds));
                        said += count;
                    }
                }
            }
            let (out, _) = tried(&old, &new);
            // Between two edits that are closer than a step and a window nothing is found, and
            // every turn and every cut may cost as much.
            let step = (length as u64 / WINDOWS).next_power_of_two().max(STEP_BYTES_MIN);
            let around = 2 * (edits + 1) * (usize::try_from(step).unwrap() + WINDOW + 16);
            assert!(out.len() < said + around, "round {round}: {} for {said}", out.len());
        }
    }

    #[test]
    fn contents_that_have_nothing_or_everything_in_common() {
        let mut numbers = Numbers(8);
        let noise = numbers.bytes(700_000, 256);
        let other = numbers.bytes(700_000, 256);
        let zeros = vec![0; 900_000];
        let beat = noise[..5_000].repeat(100);
        for old in [&noise[..], &zeros, &beat, b"", b"short", &noise[..WINDOW]] {
            for new in
                [&noise[..], &other, &zeros, &zeros[1..], &beat[77..], b"", b"x", &noise[1..]]
            {
                tried(old, new);
            }
        }
        assert_eq!(tried(&noise, &noise), (tried(&noise, &noise).0, 700_000));
        assert!(tried(&noise, &noise).0.len() < 10);
        assert_eq!(tried(&noise, &other).1, 0);
        assert!(tried(&zeros, &zeros).0.len() < 10);
    }

    #[test]
    fn an_old_content_that_changes_meanwhile_gives_no_error_here() {
        // What is copied is only said; that it is right is looked at where it is made.
        let mut numbers = Numbers(9);
        let mut file = tempfile::tempfile().unwrap();
        let noise = numbers.bytes(600_000, 256);
        file.write_all(&noise).unwrap();
        let stored = Stored { file: file.try_clone().unwrap(), from: 0, size: 600_000 };
        let (index, _) = Index::of(&stored).unwrap();
        file.set_len(1_000).unwrap();
        let mut out = Vec::new();
        let copied = write(&stored, &index, &mut &noise[..], &mut out).unwrap();
        assert!(copied <= 1_000 && out.len() > 599_000);
    }
}
