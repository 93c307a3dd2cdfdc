//! Small contents of a package that arrives, all in one file: thousands of files of their own would
//! take longer to be made, and made durable, than what is in them.
//!
//! ```text
//! entry  hash (32 bytes), length (u32, little endian), content
//! ```
//!
//! Nothing of it is believed: whoever reads a content compares its hash.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use entracte_model::Hash;

use crate::PackageError;
use crate::error::At;

/// The file's name among the contents that have one of their own.
pub(crate) const NAME: &str = "small";
/// The longest content in it, in bytes.
pub(crate) const BYTES_MAX: u64 = 128 * 1024;

const HEAD_BYTES: u64 = 32 + 4;

/// Such a file.
pub(crate) struct Small {
    file: File,
    path: PathBuf,
    places: HashMap<Hash, (u64, u32)>,
    /// Where the last complete entry ends.
    end: u64,
}

impl Small {
    /// Reads where each content is, up to the first entry that is not complete.
    pub(crate) fn of(file: File, path: &Path) -> Result<Self, PackageError> {
        let size = file.metadata().at("look at", path)?.len();
        let mut small = Self { file, path: path.to_owned(), places: HashMap::new(), end: 0 };
        while let Some((hash, length)) = small.head(size).at("read", path)? {
            let begin = small.end + HEAD_BYTES;
            small.places.insert(hash, (begin, length));
            small.end = begin + u64::from(length);
        }
        Ok(small)
    }

    /// What the next entry says, where all of it is there.
    fn head(&self, size: u64) -> io::Result<Option<(Hash, u32)>> {
        if self.end + HEAD_BYTES > size {
            return Ok(None);
        }
        let mut head = [0; 36];
        self.file.read_exact_at(&mut head, self.end)?;
        let (mut hash, mut length) = ([0; 32], [0; 4]);
        hash.copy_from_slice(&head[..32]);
        length.copy_from_slice(&head[32..]);
        let length = u32::from_le_bytes(length);
        let whole = self.end + HEAD_BYTES + u64::from(length) <= size;
        let possible = u64::from(length) <= BYTES_MAX;
        Ok((whole && possible).then_some((Hash(hash), length)))
    }

    /// The contents that it says it has.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &Hash> {
        self.places.keys()
    }

    /// What it has under this hash.
    pub(crate) fn content(&self, hash: &Hash) -> Option<Content<'_>> {
        let (at, length) = *self.places.get(hash)?;
        Some(Content { file: &self.file, at, left: length.into() })
    }

    /// Adds a content, which has this hash.
    pub(crate) fn add(&mut self, hash: Hash, content: &[u8]) -> Result<(), PackageError> {
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let entry = [&hash.0[..], &length.to_le_bytes(), content].concat();
        // Where the last complete one ends: what a full disk cut off is written over.
        self.file.write_all_at(&entry, self.end).at("write", &self.path)?;
        self.places.insert(hash, (self.end + HEAD_BYTES, length));
        self.end += entry.len() as u64;
        Ok(())
    }

    /// Cuts off what follows the last complete entry.
    pub(crate) fn trim(&self) -> Result<(), PackageError> {
        self.file.set_len(self.end).at("write", &self.path)
    }
}

/// One content of it.
pub(crate) struct Content<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reopened(path: &Path) -> Small {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        Small::of(file.unwrap(), path).unwrap()
    }

    fn text(small: &Small, hash: &Hash) -> Option<String> {
        small.content(hash).map(|content| io::read_to_string(content).unwrap())
    }

    #[test]
    fn contents_come_back_and_what_was_cut_off_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let [one, two, none] = ["one", "two", ""].map(|text| (Hash::of(text.as_bytes()), text));
        let mut small = reopened(&path);
        for (hash, text) in [one, none, two] {
            small.add(hash, text.as_bytes()).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut small = reopened(&path);
            let complete = [39, 75, 114].map(|end| cut >= end);
            for ((hash, expected), complete) in [one, none, two].into_iter().zip(complete) {
                assert_eq!(text(&small, &hash).as_deref(), complete.then_some(expected));
            }
            small.add(Hash::of(b"three"), b"three").unwrap();
            small.trim().unwrap();
            let small = reopened(&path);
            assert_eq!(text(&small, &Hash::of(b"three")).unwrap(), "three");
            assert_eq!(small.hashes().count(), 1 + complete.iter().filter(|is| **is).count());
        }
    }

    #[test]
    fn an_impossible_length_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let long = vec![0; usize::try_from(BYTES_MAX).unwrap() + 1];
        let length = u32::try_from(long.len()).unwrap().to_le_bytes();
        std::fs::write(&path, [&[7; 32][..], &length, &long].concat()).unwrap();
        assert_eq!(reopened(&path).hashes().count(), 0);
        std::fs::write(&path, [&[7; 32][..], &[0xFF; 4], b"x"].concat()).unwrap();
        assert_eq!(reopened(&path).hashes().count(), 0);
    }
}
