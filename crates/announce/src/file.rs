//! Writing files so that a reader sees the old text or the new one, never a part.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts `bytes` at `path`, unless they are there already, and says whether it wrote.
///
/// A crash leaves the old file or the new one, and at worst a `.part` beside it, which the next
/// write replaces. The new name is durable only after [`sync_dir`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    // An unchanged page keeps its modification time, and with it its ETag.
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&part, path)?;
    Ok(true)
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
