//! The dump of a SQLite database: a complete database file, as the engine's backup interface
//! writes it. Exact to the last bit of every number, which a dump as text is not, and about
//! eight times faster.

use std::io::{Read, Write};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tempfile::NamedTempFile;

use super::point::{copy_from, copy_to};
use super::sums;
use crate::contents::{self, Contents};
use crate::database::Progress;
use crate::error::DbError;

const CHUNK_BYTES: usize = 1 << 20;
/// How every SQLite database file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The file header's length; at byte 28 it holds the number of pages.
const HEADER_BYTES: usize = 100;

pub(super) fn dump(
    live: &Connection,
    path: &Path,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let copy = beside(path)?;
    copy_to(live, copy.path(), "copying the database", progress)?;
    stream(copy.path(), out, progress)
}

/// As [`dump`]; what it holds is read from the very file that is streamed.
pub(super) fn dump_with_contents(
    live: &Connection,
    path: &Path,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<(u64, Contents), DbError> {
    let copy = beside(path)?;
    copy_to(live, copy.path(), "copying the database", progress)?;
    let bytes = stream(copy.path(), out, progress)?;
    let doing = DbError::engine::<rusqlite::Error>("reading the dump");
    let database = Connection::open(copy.path()).map_err(doing)?;
    let schema = sums::schema(&database)?;
    let tables = contents::of_sums(sums::sums(&database)?);
    Ok((bytes, Contents::new(tables, &schema, &schema)))
}

fn stream(
    copy: &Path,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let mut file = std::fs::File::open(copy).map_err(DbError::io("open", copy))?;
    let total = file.metadata().map_err(DbError::io("look at", copy))?.len();
    let mut note = |done| {
        progress(Progress { done, total, unit: "bytes", note: "writing the dump".to_owned() });
    };
    pump(&mut file, out, &mut note)
}

/// Takes the whole stream, sees that it is a whole and sound database, and only then copies it
/// over the live one, in one transaction: a cut stream or a crash changes nothing.
pub(super) fn load(
    live: &mut Connection,
    path: &Path,
    input: &mut dyn Read,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let mut copy = beside(path)?;
    let mut note = |done| {
        progress(Progress {
            done,
            total: done,
            unit: "bytes",
            note: "reading the dump".to_owned(),
        });
    };
    let length = pump(input, copy.as_file_mut(), &mut note)?;
    check(copy.path(), length)?;
    copy_from(live, copy.path(), "loading the dump", progress)
}

/// A file beside the database: the same disk, and where SQLite itself must be able to write.
/// It goes when it is dropped; a crash can leave `.entracte-*` behind.
fn beside(path: &Path) -> Result<NamedTempFile, DbError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".entracte-")
        .suffix(".sqlite")
        .tempfile_in(dir)
        .map_err(DbError::io("create a file in", dir))
}

fn pump(
    from: &mut dyn Read,
    to: &mut dyn Write,
    note: &mut dyn FnMut(u64),
) -> Result<u64, DbError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(DbError::Stream(error)),
        };
        to.write_all(&buffer[..read]).map_err(DbError::Stream)?;
        total += read as u64;
        note(total);
    }
    to.flush().map_err(DbError::Stream)?;
    Ok(total)
}

/// The header says how many pages there are; the engine says whether they are sound.
fn check(path: &Path, length: u64) -> Result<(), DbError> {
    let mut header = [0; HEADER_BYTES];
    let mut file = std::fs::File::open(path).map_err(DbError::io("open", path))?;
    let truncated = |expected: String, found: String| DbError::TruncatedDump { expected, found };
    if length < HEADER_BYTES as u64
        || file.read_exact(&mut header).is_err()
        || !header.starts_with(MAGIC)
    {
        return Err(truncated(
            "a SQLite database file".to_owned(),
            format!("{length} other bytes"),
        ));
    }
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    if pages * page_bytes != length {
        return Err(truncated(format!("byte {}", pages * page_bytes), format!("byte {length}")));
    }
    let doing = || DbError::engine::<rusqlite::Error>("checking the dump");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let copy = Connection::open_with_flags(path, flags).map_err(doing())?;
    let said: String =
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(doing())?;
    if said != "ok" {
        return Err(truncated("a sound database".to_owned(), said.chars().take(80).collect()));
    }
    Ok(())
}
