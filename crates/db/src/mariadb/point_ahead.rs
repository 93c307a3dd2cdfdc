//! Copies of the table files made while the game still runs, and brought up to date inside the
//! window: then the window costs what changed meanwhile, not what the database weighs.
//!
//! Why that is exact. The server writes the number of its last change (LSN) into every page that
//! it writes. Before a copy begins we ask for the checkpoint: every change with a smaller number
//! was in the files by then. A page that is written after that moment therefore carries a number
//! at or above the checkpoint, also where our copy caught it half written. In the window, when
//! the server holds the files still, exactly those pages are copied again. A table that was made
//! anew meanwhile is another file (or all its pages are younger) and is copied whole.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::connect::Server;
use super::definitions::Table;
use super::point_files::{length, source};
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{
    copy_contents, private_dir, private_file, remove_if_there, remove_tree_if_there, shares_blocks,
    sync_dir, sync_file, write_durably,
};

/// The folder in a point's directory.
const AHEAD: &str = "ahead";
/// What makes the copies worth anything: written last, removed first.
const LEDGER: &str = "ahead.json";
/// Where a page holds the number of its last change, and how long that is.
const LSN_OFFSET: u64 = 16;
const LSN_BYTES: usize = 8;
/// The most times that the copies are brought nearer before the window; each time is as long as
/// what the game changed during the one before.
const PASSES_MAX: u32 = 4;
/// What may be left for the window, in bytes: less than a disk writes in a tenth of a second.
const LEFT_BYTES_MAX: u64 = 16 << 20;
/// Two writes within this time may leave the same time on a file.
const CLOCK_GRAIN_NS: i128 = 2_000_000_000;

/// What the copies are worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ahead {
    /// Of which database.
    database: String,
    /// Pages with a smaller number are in the copies as they are in the files.
    checkpoint: u64,
    /// The server's page size.
    page_bytes: u64,
    /// The copies, by table.
    copies: BTreeMap<String, Copied>,
}

/// A file as it was before it was copied last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    inode: u64,
    bytes: u64,
    /// When it was written to last; nothing where that was too near to the copy to mean anything.
    quiet_since_ns: Option<i128>,
}

/// Copies the files of `tables` into `dir`, or brings copies that lie there nearer to them.
/// Changes nothing in the database and locks nothing. The number of bytes copied; none where
/// there is nothing to gain (the file system shares blocks) or the server does not say what is
/// needed to be exact.
pub(super) fn prepare(
    server: &mut Server,
    data_dir: &Path,
    database: &str,
    tables: &[&Table],
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<u64>, DbError> {
    let Some(page_bytes) = server_number(server, "SELECT @@innodb_page_size")? else {
        return Ok(None);
    };
    let folder = dir.join(AHEAD);
    private_dir(&folder)?;
    if shares_blocks(data_dir, &folder)? {
        remove_tree_if_there(&folder)?;
        return Ok(None);
    }
    let mut ahead = take_ledger(dir, database, page_bytes)?
        .unwrap_or_else(|| Ahead::nothing(database, page_bytes));
    forget_others(&folder, &mut ahead, tables)?;
    let mut total = 0;
    for _ in 0..PASSES_MAX {
        let Some(checkpoint) = checkpoint(server)? else {
            remove_tree_if_there(&folder)?;
            return Ok(None);
        };
        let copied = pass(&mut ahead, data_dir, tables, &folder, progress)?;
        ahead.checkpoint = checkpoint;
        total += copied;
        if copied <= LEFT_BYTES_MAX {
            break;
        }
    }
    // The copies are durable before what vouches for them. A crash before the end of this leaves
    // files without a ledger, which are worth nothing and are made again.
    for table in tables {
        sync_file(&source(&folder, table, "ibd"))?;
    }
    sync_dir(&folder)?;
    let json = serde_json::to_vec(&ahead).expect("texts and numbers");
    write_durably(&folder.join(LEDGER), &json)?;
    Ok(Some(total))
}

/// The ledger of copies that lie in `dir`, which from now on vouches for nothing: what is done to
/// the copies next may be interrupted.
pub(super) fn take_ledger(
    dir: &Path,
    database: &str,
    page_bytes: u64,
) -> Result<Option<Ahead>, DbError> {
    let folder = dir.join(AHEAD);
    let path = folder.join(LEDGER);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DbError::io("read", path)(error)),
    };
    remove_if_there(&path)?;
    sync_dir(&folder)?;
    let ahead: Option<Ahead> = serde_json::from_slice(&json).ok();
    Ok(ahead.filter(|ahead| ahead.database == database && ahead.page_bytes == page_bytes))
}

/// The page size of the server, for [`take_ledger`].
pub(super) fn page_bytes(server: &mut Server) -> Result<Option<u64>, DbError> {
    server_number(server, "SELECT @@innodb_page_size")
}

impl Ahead {
    fn nothing(database: &str, page_bytes: u64) -> Self {
        Self { database: database.to_owned(), checkpoint: 0, page_bytes, copies: BTreeMap::new() }
    }

    /// Moves the copy of a table to `to` and makes it equal to the file `live`, which the server
    /// holds still. The number of bytes copied; none where there is no copy of it.
    pub(super) fn finish(
        &self,
        dir: &Path,
        table: &Table,
        live: &Path,
        to: &Path,
    ) -> Result<Option<u64>, DbError> {
        let Some(copied) = self.copies.get(&table.name) else { return Ok(None) };
        let about = fs::metadata(live).map_err(DbError::io("look at", live))?;
        if about.ino() != copied.inode {
            return Ok(None);
        }
        let from = source(&dir.join(AHEAD), table, "ibd");
        fs::rename(&from, to).map_err(DbError::io("move", &from))?;
        if copied.is_still(&about) {
            return Ok(Some(0));
        }
        self.refresh(live, to).map(Some)
    }

    /// Copies every page of `live` that may differ from the one in `copy`.
    fn refresh(&self, live: &Path, copy: &Path) -> Result<u64, DbError> {
        let source = File::open(live).map_err(DbError::io("open", live))?;
        let target = OpenOptions::new().write(true).open(copy);
        let target = target.map_err(DbError::io("open", copy))?;
        let long = source.metadata().map_err(DbError::io("look at", live))?.len();
        let had = target.metadata().map_err(DbError::io("look at", copy))?.len();
        if had > long {
            target.set_len(long).map_err(DbError::io("cut", copy))?;
        }
        let whole_pages_had = had / self.page_bytes;
        let page_length = usize::try_from(self.page_bytes).expect("a page is at most 64 KiB");
        let mut page = vec![0; page_length];
        let mut copied = 0;
        for number in 0..long.div_ceil(self.page_bytes) {
            let at = number * self.page_bytes;
            let mut lsn = [0; LSN_BYTES];
            let read = source.read_exact_at(&mut lsn, at + LSN_OFFSET);
            read.map_err(DbError::io("read", live))?;
            let lsn = u64::from_be_bytes(lsn);
            // Zero: a page that was never used, or was given up since.
            if lsn != 0 && lsn < self.checkpoint && number < whole_pages_had {
                continue;
            }
            let rest = usize::try_from(long - at).unwrap_or(page_length).min(page_length);
            source.read_exact_at(&mut page[..rest], at).map_err(DbError::io("read", live))?;
            target.write_all_at(&page[..rest], at).map_err(DbError::io("write", copy))?;
            copied += rest as u64;
        }
        Ok(copied)
    }
}

impl Copied {
    /// As the file is now, before it is copied.
    fn before(live: &Path) -> Result<Self, DbError> {
        let about = fs::metadata(live).map_err(DbError::io("look at", live))?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0));
        let written = written_ns(&about);
        Ok(Self {
            inode: about.ino(),
            bytes: about.len(),
            quiet_since_ns: (now - written > CLOCK_GRAIN_NS).then_some(written),
        })
    }

    /// Nothing was written to the file since before it was copied.
    fn is_still(&self, about: &fs::Metadata) -> bool {
        self.inode == about.ino()
            && self.bytes == about.len()
            && self.quiet_since_ns == Some(written_ns(about))
    }
}

/// The later of the times of the content and of the inode: nobody can set both back.
fn written_ns(about: &fs::Metadata) -> i128 {
    let time = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    time(about.mtime(), about.mtime_nsec()).max(time(about.ctime(), about.ctime_nsec()))
}

/// Every table once: whole where there is no copy of this very file yet.
fn pass(
    ahead: &mut Ahead,
    data_dir: &Path,
    tables: &[&Table],
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let mut total = 0;
    for table in tables {
        total += length(&source(data_dir, table, "ibd"))?;
    }
    let (mut done, mut copied) = (0, 0);
    for table in tables {
        let (live, copy) = (source(data_dir, table, "ibd"), source(folder, table, "ibd"));
        let seen = Copied::before(&live)?;
        let known = ahead.copies.get(&table.name).filter(|known| known.inode == seen.inode);
        let still = known.is_some_and(|known| {
            known.quiet_since_ns.is_some()
                && (known.bytes, known.quiet_since_ns) == (seen.bytes, seen.quiet_since_ns)
        });
        let bytes = match known {
            Some(_) if still => 0,
            Some(_) => ahead.refresh(&live, &copy)?,
            None => {
                let mut file = private_file(&copy)?;
                let mut whole = 0;
                copy_contents(&live, &mut file, &copy, &mut |bytes| {
                    whole += bytes;
                    let (done, note) = (done + whole, table.name.clone());
                    progress(Progress { done, total: total.max(done), unit: "bytes", note });
                })?;
                whole
            }
        };
        ahead.copies.insert(table.name.clone(), seen);
        copied += bytes;
        done += length(&live)?;
        let note = table.name.clone();
        progress(Progress { done, total: total.max(done), unit: "bytes", note });
    }
    Ok(copied)
}

/// Lets go of copies of tables that are gone, or that can be copied so no longer.
fn forget_others(folder: &Path, ahead: &mut Ahead, tables: &[&Table]) -> Result<(), DbError> {
    let wanted: Vec<_> = tables.iter().map(|table| source(folder, table, "ibd")).collect();
    ahead.copies.retain(|name, _| tables.iter().any(|table| table.name == *name));
    for entry in fs::read_dir(folder).map_err(DbError::io("list", folder))? {
        let path = entry.map_err(DbError::io("list", folder))?.path();
        let kept = wanted
            .iter()
            .zip(tables)
            .any(|(file, table)| *file == path && ahead.copies.contains_key(&table.name));
        if !kept {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// Every change with a smaller number than this is in the files.
fn checkpoint(server: &mut Server) -> Result<Option<u64>, DbError> {
    const DOING: &str = "asking for the checkpoint";
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name = 'Innodb_lsn_last_checkpoint'";
    let row = server.rows_for(sql, DOING)?.pop().unwrap_or_default();
    Ok(super::connect::number(&row, 1).filter(|number| *number > 0))
}

fn server_number(server: &mut Server, sql: &str) -> Result<Option<u64>, DbError> {
    Ok(server.text_for(sql, "asking for the page size")?.parse().ok())
}
