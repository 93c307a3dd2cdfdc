//! Readers that know where they are and what they read.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use entracte_model::Hash;

use super::BadArchive;
use crate::PackageError;

/// Hashes what goes through it.
pub(crate) struct HashRead<R> {
    inner: R,
    hasher: blake3::Hasher,
    size: u64,
}

impl<R: Read> HashRead<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), size: 0 }
    }

    /// How many bytes went through, and their hash.
    pub(crate) fn finish(&self) -> (u64, Hash) {
        (self.size, self.hasher.finalize().into())
    }
}

impl<R: Read> Read for HashRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

/// Reads a file from its beginning without moving the position that others of its handle share.
pub(crate) struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> FromStart<'a> {
    pub(crate) fn buffered(file: &'a File) -> BufReader<Self> {
        BufReader::with_capacity(crate::files::CHUNK_BYTES, Self { file, at: 0 })
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// What an error of the decoder means: the system's own errors carry a number, its do not.
pub(crate) fn fault(error: io::Error, path: &Path) -> PackageError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        BadArchive::Truncated.into()
    } else if error.raw_os_error().is_some() {
        PackageError::Io { doing: "read", path: path.to_owned(), source: error }
    } else {
        BadArchive::Damaged(error).into()
    }
}
