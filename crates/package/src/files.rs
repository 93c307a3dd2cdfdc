//! Small things about files that several modules need.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use entracte_model::Hash;

use crate::PackageError;
use crate::error::At;

/// The bytes that are read, hashed and written at a time.
pub(crate) const CHUNK_BYTES: usize = 128 * 1024;

/// Makes the names of a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), PackageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).at("sync the folder", dir)
}

/// Writes a file whole or not at all, durably: `<name>.part`, synced, renamed, folder synced.
///
/// A crash can cost a `.part` file that is left behind; the next write replaces it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PackageError> {
    let part = part_of(path);
    let write = || -> io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    if let Err(error) = write() {
        // The error at hand says more than one about the left-over would.
        let _ = fs::remove_file(&part);
        return Err(error).at("write", path);
    }
    sync_above(path)
}

/// Makes the name of `path` durable.
pub(crate) fn sync_above(path: &Path) -> Result<(), PackageError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// `path` with `.part` behind its name: never a name that anybody takes for a finished file.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    beside(path, ".part")
}

/// `path` with `suffix` behind its last name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    // Taken apart and put together again, a path has no slash at its end.
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Reads `from` to its end, gives each chunk to `sink`, and says how much and what it was.
pub(crate) fn hash_into(
    from: &mut dyn Read,
    mut sink: impl FnMut(&[u8]) -> Result<(), PackageError>,
    reading: &Path,
) -> Result<(u64, Hash), PackageError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.finalize().into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).at("read", reading),
        };
        hasher.update(&buffer[..count]);
        size += count as u64;
        sink(&buffer[..count])?;
    }
}

/// Writes a new file and leaves holes where there is nothing but zeros: the file of a database that
/// was made large beforehand costs no disk for it.
pub(crate) struct Sparse<'a> {
    file: &'a mut File,
    hole: bool,
}

impl<'a> Sparse<'a> {
    /// Holes smaller than a block of the file system would be none.
    const HOLE_BYTES_MIN: usize = 4_096;

    pub(crate) fn new(file: &'a mut File) -> Self {
        Self { file, hole: false }
    }

    pub(crate) fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
        let zeros = ZEROS.get(..chunk.len());
        self.hole = chunk.len() >= Self::HOLE_BYTES_MIN && zeros == Some(chunk);
        match self.hole {
            true => self.file.seek_relative(i64::try_from(chunk.len()).unwrap_or(0)),
            false => self.file.write_all(chunk),
        }
    }

    /// Gives the file its length, also where it ends in a hole.
    pub(crate) fn end(self) -> io::Result<()> {
        if self.hole {
            let length = self.file.stream_position()?;
            self.file.set_len(length)?;
        }
        Ok(())
    }
}

/// Removes its path, file or folder, unless told to keep it.
pub(crate) struct Scrap(Option<PathBuf>);

impl Scrap {
    pub(crate) fn new(path: &Path) -> Self {
        Self(Some(path.to_owned()))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Best effort: what caused the drop is already on its way to the caller.
            let _ = match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
                Ok(_) => fs::remove_file(path),
                Err(_) => Ok(()),
            };
        }
    }
}
