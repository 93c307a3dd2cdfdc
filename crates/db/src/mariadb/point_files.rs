//! The point as copies of InnoDB's own table files, which takes as long as copying them does, or
//! no time where the file system can share blocks; loading a dump takes a hundred times longer.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::connect::{Server, code, column, ident};
use super::definitions::Table;
use super::point_ahead;
use super::rights::Rights;
use super::waiting::Outside;
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{
    copy_contents, private_dir, private_file, remove_if_there, remove_tree_if_there, sync_dir,
    sync_file,
};
use crate::script::run::Watcher;
use crate::settings::MariadbSettings;

const TABLES: &str = "tables";
/// How long the flushing waits for a table: the fence has seen that nobody holds one, and every
/// second is closed time.
const FLUSH_WAIT_S: u64 = 5;
/// How often it is looked whom the flushing waits for.
const LOOK_MS: u64 = 500;
/// The rows, and the description that an import compares the table with.
const SUFFIXES: [&str; 2] = ["ibd", "cfg"];

/// Tables with a column that `SHOW CREATE TABLE` does not tell of: one made from that takes the
/// file and is corrupt.
const HIDDEN_COLUMNS: &str = "SELECT t.NAME FROM information_schema.INNODB_SYS_TABLES t
    JOIN information_schema.INNODB_SYS_COLUMNS c ON c.TABLE_ID = t.TABLE_ID
    WHERE c.NAME = 'FTS_DOC_ID' AND t.NAME LIKE CONCAT(REPLACE(DATABASE(), '_', '\\_'), '/%')";

/// Where the database's files are, or why the point cannot be made of them.
pub(super) fn possible(
    server: &mut Server,
    settings: &MariadbSettings,
    rights: &Rights,
) -> Result<Result<PathBuf, String>, DbError> {
    let Some(data_dir) = &settings.data_dir else {
        return Ok(Err("no data directory is configured".to_owned()));
    };
    if !rights.global("RELOAD") {
        return Ok(Err(format!("{} lacks RELOAD", rights.account)));
    }
    if !rights.global("PROCESS") {
        return Ok(Err(format!("{} lacks PROCESS", rights.account)));
    }
    // Imported files do not go through the binary log: a replica would keep the other rows.
    let replicas = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
                    WHERE COMMAND LIKE 'Binlog Dump%'";
    if server.text_for(replicas, "looking for replicas")? != "0" {
        return Ok(Err("the server has replicas".to_owned()));
    }
    let Some(folder) = file_name(&settings.database) else {
        return Ok(Err("the database's name is written otherwise on disk".to_owned()));
    };
    let dir = data_dir.join(folder);
    let said = |error: std::io::Error| format!("{} cannot be entered: {error}", dir.display());
    let about = match fs::metadata(&dir) {
        Ok(about) => about,
        Err(error) => return Ok(Err(said(error))),
    };
    let user = rustix::process::geteuid();
    if !user.is_root() && user.as_raw() != about.uid() {
        return Ok(Err(format!("{} belongs to another user", dir.display())));
    }
    Ok(Ok(dir))
}

/// The tables that cannot be had as files, each with the reason.
pub(super) fn without_files(
    server: &mut Server,
    tables: &[Table],
) -> Result<BTreeMap<String, String>, DbError> {
    let named = |table: &Table| obstacle(table).map(|why| (table.name.clone(), why));
    let mut found: BTreeMap<String, String> = tables.iter().filter_map(named).collect();
    let hidden = server.rows_for(HIDDEN_COLUMNS, "looking for hidden columns")?;
    let hidden: Vec<String> = hidden.iter().map(|row| column(row, 0)).collect();
    for table in tables {
        // `game/players`, as on disk.
        let is_it = |name: &String| name.rsplit('/').next() == file_name(&table.name).as_deref();
        if hidden.iter().any(is_it) {
            let why = "keeps the hidden column of a dropped full-text index".to_owned();
            found.entry(table.name.clone()).or_insert(why);
        }
    }
    Ok(found)
}

/// Whether the pages of the table's file are as long as the server's.
pub(super) fn has_whole_pages(table: &Table) -> bool {
    let options = table.options.to_ascii_lowercase();
    !(options.contains("row_format=compressed") || options.contains("key_block_size"))
}

/// What keeps this table from being exported as a file.
fn obstacle(table: &Table) -> Option<String> {
    let options = table.options.to_ascii_lowercase();
    let create = table.create.to_ascii_uppercase();
    let why = if table.engine != "InnoDB" {
        format!("is kept by {}", table.engine)
    } else if options.contains("partitioned") {
        "is partitioned".to_owned()
    } else if options.contains("encrypted") || options.contains("page_compressed") {
        "is encrypted or compressed by pages".to_owned()
    } else if create.contains("\n  FULLTEXT KEY") || create.contains("\n  SPATIAL KEY") {
        "has a full-text or spatial index".to_owned()
    } else if create.contains("DATA DIRECTORY") {
        "lies in a directory of its own".to_owned()
    } else if file_name(&table.name).is_none() {
        "has a name that is written otherwise on disk".to_owned()
    } else {
        return None;
    };
    Some(why)
}

/// The name of a table or database on disk, for the names whose form we are sure of.
fn file_name(name: &str) -> Option<String> {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => out.push(c),
            ' '..='~' => out.push_str(&format!("@{:04x}", u32::from(c))),
            _ => return None,
        }
    }
    Some(out)
}

/// Copies every table while the server keeps its files still. The size in bytes.
pub(super) fn take(
    server: &mut Server,
    settings: &MariadbSettings,
    data_dir: &Path,
    database: &str,
    tables: &[&Table],
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let folder = dir.join(TABLES);
    private_dir(&folder)?;
    if tables.is_empty() {
        sync_dir(&folder)?;
        return Ok(0);
    }
    let ahead = match point_ahead::page_bytes(server)? {
        Some(page_bytes) => point_ahead::take_ledger(dir, database, page_bytes)?,
        None => None,
    };
    let names: Vec<String> = tables.iter().map(|table| ident(&table.name)).collect();
    let flush = format!("FLUSH TABLES {} FOR EXPORT", names.join(", "));
    flush_tables(server, settings, &flush)?;
    let mut total = 0;
    for table in tables {
        total += length(&source(data_dir, table, "ibd"))?;
    }
    let mut done = 0;
    for table in tables {
        for suffix in SUFFIXES {
            let from = source(data_dir, table, suffix);
            let to = source(&folder, table, suffix);
            let prepared = match &ahead {
                Some(ahead) if suffix == "ibd" => ahead.finish(dir, table, &from, &to)?,
                _ => None,
            };
            let mut step = |bytes| {
                done += bytes;
                let note = table.name.clone();
                progress(Progress { done, total: total.max(done), unit: "bytes", note });
            };
            if prepared.is_some() {
                step(length(&to)?);
            } else {
                let mut file = private_file(&to)?;
                copy_contents(&from, &mut file, &to, &mut step)?;
            }
        }
    }
    server.run_for("UNLOCK TABLES", "unlocking the tables")?;
    // The locks are not held for this: the copies are ours alone.
    for table in tables {
        for suffix in SUFFIXES {
            sync_file(&source(&folder, table, suffix))?;
        }
    }
    sync_dir(&folder)?;
    Ok(done)
}

/// Has the server write the tables into their files and hold them still.
///
/// # Errors
/// [`DbError::StillWriting`] names who holds one of them, where that is waited for in vain.
fn flush_tables(
    server: &mut Server,
    settings: &MariadbSettings,
    flush: &str,
) -> Result<(), DbError> {
    let wait = format!("SET SESSION lock_wait_timeout = {FLUSH_WAIT_S}");
    server.run_for(&wait, "preparing the flushing of the tables")?;
    let mut outside = Outside::new(settings, server.id());
    let (done, over) = mpsc::channel::<()>();
    let (flushed, waited_for) = thread::scope(|scope| {
        // Who is waited for is seen while it is waited for: afterwards the lock is given up.
        let looking = scope.spawn(move || {
            let mut last = Vec::new();
            let pause = Duration::from_millis(LOOK_MS);
            while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let holders = outside.look().holders;
                if !holders.is_empty() {
                    last = holders;
                }
            }
            last
        });
        let flushed = server.run(flush);
        drop(done);
        (flushed, looking.join().unwrap_or_default())
    });
    match flushed {
        Ok(_) => Ok(()),
        Err(error) if error.code == Some(code::LOCK_WAIT) => Err(DbError::StillWriting {
            sessions: waited_for,
            hint: "the tables could not be flushed to their files: end these sessions, or add \
                   their account to the database's game_users"
                .to_owned(),
        }),
        Err(error) => Err(DbError::engine("flushing the tables to their files")(error)),
    }
}

/// Lets go of the tables after a failure, and of what was copied.
pub(super) fn give_up(server: &mut Server, dir: &Path) -> Result<(), DbError> {
    server.run_for("UNLOCK TABLES", "unlocking the tables")?;
    remove_tree_if_there(&dir.join(TABLES))
}

/// Makes the tables and has the server take the copies for their rows. The database holds none
/// of them by now.
pub(super) fn restore(
    server: &mut Server,
    data_dir: &Path,
    tables: &[&Table],
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let folder = dir.join(TABLES);
    let mut total = 0;
    for table in tables {
        total += length(&source(&folder, table, "ibd"))?;
        // What an interrupted restore put there for a table that is dropped since.
        for suffix in SUFFIXES {
            remove_if_there(&source(data_dir, table, suffix))?;
        }
    }
    server.run_for("SET SESSION innodb_strict_mode = 0", "preparing the tables")?;
    for table in tables {
        server.run_for(&table.create, &format!("making the table {}", table.name))?;
    }
    let mut done = 0;
    for table in tables {
        let name = ident(&table.name);
        let doing = format!("taking back the rows of {}", table.name);
        server.run_for(&format!("ALTER TABLE {name} DISCARD TABLESPACE"), &doing)?;
        for suffix in SUFFIXES {
            put(&source(&folder, table, suffix), &source(data_dir, table, suffix), &mut |bytes| {
                done += bytes;
                let note = table.name.clone();
                progress(Progress { done, total: total.max(done), unit: "bytes", note });
            })?;
        }
        server.run_for(&format!("ALTER TABLE {name} IMPORT TABLESPACE"), &doing)?;
        remove_if_there(&source(data_dir, table, "cfg"))?;
        see_that_it_is_whole(server, table)?;
    }
    Ok(())
}

/// Puts a copy where the server expects a table's file, belonging to whom the directory does.
fn put(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> Result<(), DbError> {
    let dir = to.parent().unwrap_or(Path::new("/"));
    let about = fs::metadata(dir).map_err(DbError::io("look at", dir))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o660)
        .open(to)
        .map_err(DbError::io("create", to))?;
    // As the server makes its own files, whatever our umask is.
    file.set_permissions(fs::Permissions::from_mode(0o660)).map_err(DbError::io("open up", to))?;
    if rustix::process::geteuid().is_root() {
        let (owner, group) = (Some(about.uid()), Some(about.gid()));
        std::os::unix::fs::fchown(&file, owner, group).map_err(DbError::io("give away", to))?;
    }
    copy_contents(from, &mut file, to, copied)?;
    file.sync_all().map_err(DbError::io("sync", to))?;
    sync_dir(dir)
}

/// An import can succeed and leave an index that is not in step: the server looks.
fn see_that_it_is_whole(server: &mut Server, table: &Table) -> Result<(), DbError> {
    let sql = format!("CHECK TABLE {} QUICK", ident(&table.name));
    let doing = format!("checking the table {}", table.name);
    let said = server.rows_for(&sql, &doing)?;
    let bad = said.iter().find(|row| matches!(column(row, 2).as_str(), "error" | "Error"));
    match bad {
        Some(row) => Err(DbError::Unsupported {
            what: format!(
                "the table {} was imported and is not sound: {}",
                table.name,
                column(row, 3)
            ),
            hint: "restore the backup of before the release".to_owned(),
        }),
        None => Ok(()),
    }
}

pub(super) fn source(dir: &Path, table: &Table, suffix: &str) -> PathBuf {
    // `without_files` has seen that each name has a form on disk.
    dir.join(format!("{}.{suffix}", file_name(&table.name).unwrap_or_default()))
}

pub(super) fn length(path: &Path) -> Result<u64, DbError> {
    Ok(fs::metadata(path).map_err(DbError::io("look at", path))?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_whose_form_on_disk_is_sure_are_used() {
        assert_eq!(file_name("players_2").as_deref(), Some("players_2"));
        assert_eq!(file_name("a-b $").as_deref(), Some("a@002db@0020@0024"));
        assert_eq!(file_name("é"), None);
    }
}
