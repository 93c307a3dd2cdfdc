//! The point by SQL alone, without a dump in the window: a dump of a moment before it, and what
//! the server wrote into its binary log between that moment and the fence.
//!
//! Why that is exact. The dump is one transaction, and the server tells the place of its log that
//! belongs to it. From there on every change is in the log, row by row with all columns, or the
//! way is not taken: each condition for that is asked for beforehand, and every event is looked at
//! when it is fetched. What is no row (a changed table, a statement that is logged in words) ends
//! the way, and the dump is made in the window. Definitions, automatic values and sequences are
//! read in the window, as for the other ways.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::thread;

use entracte_model::Hash;
use serde::{Deserialize, Serialize};

use super::binlog::{self, FIRST, Keep, Place, Sifted};
use super::connect::{self, Server, account, column, literal, number, split_account};
use super::definitions::{Definitions, Table, without_next_value};
use super::dump::{self, CLIENT_TOOLS, Scope};
use super::point::client_lock_name;
use super::rights::Rights;
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{
    private_dir, private_file, remove_if_there, remove_tree_if_there, sync_dir, write_durably,
};
use crate::settings::MariadbSettings;
use crate::tool;

/// The folder in a point's directory.
const AHEAD: &str = "ahead";
/// What makes the dump and the events worth anything: written last.
const LEDGER: &str = "binlog.json";
const DUMP: &str = "dump.sql";
/// The folder of the events, ahead and in a point.
const EVENTS: &str = "events";
/// Files of the log as they were fetched, until they are sifted.
const RAW: &str = "raw";
/// The program that reads the binary log, by its new and its old name.
const BINLOG_TOOLS: &[&str] = &["mariadb-binlog", "mysqlbinlog"];
/// Where in a dump its place in the log must have been said.
const HEAD_LINES_MAX: usize = 100;
/// The first version whose account rights are cut as this needs them.
const RIGHTS_SINCE: (u64, u64) = (10, 5);

/// What a point consists of besides its dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The files of events, in order.
    pub(super) files: Vec<String>,
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) bytes: u64,
}

/// What was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Of which database.
    database: String,
    /// Of its tables when the dump was made.
    tables: Hash,
    dump_bytes: u64,
    events: Events,
}

/// Why a point cannot be made so; nothing where it can.
pub(super) fn obstacle(
    server: &mut Server,
    settings: &MariadbSettings,
    rights: &Rights,
    tables: &[Table],
) -> Result<Option<String>, DbError> {
    const DOING: &str = "looking at the binary log";
    if !server.is_mariadb {
        return Ok(Some("the server is no MariaDB and does not tell a dump's place".to_owned()));
    }
    let version = server.text_for("SELECT VERSION()", DOING)?;
    let mut parts = version.split('.').map_while(|part| part.parse::<u64>().ok());
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < RIGHTS_SINCE {
        return Ok(Some("the server is older than MariaDB 10.5".to_owned()));
    }
    for (variable, wanted) in [
        ("log_bin", "ON"),
        ("binlog_format", "ROW"),
        ("binlog_row_image", "FULL"),
        ("encrypt_binlog", "OFF"),
        ("wsrep_on", "OFF"),
        ("slave_exec_mode", "STRICT"),
    ] {
        let sql = format!("SHOW GLOBAL VARIABLES LIKE {}", literal(variable));
        let found = server.rows_for(&sql, DOING)?.pop().map(|row| column(&row, 1));
        if let Some(found) = found.filter(|found| found != wanted) {
            return Ok(Some(format!("{variable} is {found}, not {wanted}")));
        }
    }
    for right in ["BINLOG MONITOR", "REPLICATION SLAVE", "BINLOG REPLAY"] {
        if !rights.global(right) {
            let own = account(&rights.account);
            return Ok(Some(format!("the account lacks it: GRANT {right} ON *.* TO {own}")));
        }
    }
    if let Some(why) = unlogged(server, settings)? {
        return Ok(Some(why));
    }
    if let Err(error) = tool::find(BINLOG_TOOLS) {
        return Ok(Some(error.to_string()));
    }
    Ok(tables.iter().find_map(|table| {
        let why = if table.engine != "InnoDB" {
            format!("is kept by {}", table.engine)
        } else if table.versioned {
            "keeps its history".to_owned()
        } else {
            return None;
        };
        Some(format!("the table {} {why}", table.name))
    }))
}

/// Who can change the database without the log.
fn unlogged(server: &mut Server, settings: &MariadbSettings) -> Result<Option<String>, DbError> {
    const DOING: &str = "looking at what is not logged";
    let status = server.rows_for("SHOW MASTER STATUS", DOING)?.pop().unwrap_or_default();
    if !column(&status, 2).is_empty() || !column(&status, 3).is_empty() {
        return Ok(Some("the server logs some databases only (binlog_do_db)".to_owned()));
    }
    let sql = "SHOW GLOBAL STATUS LIKE 'Slaves_running'";
    let replicates = server.rows_for(sql, DOING)?.pop().is_some_and(|row| column(&row, 1) != "0");
    if replicates && server.text_for("SELECT @@log_slave_updates", DOING)? != "1" {
        return Ok(Some("the server is a replica that does not log what it receives".to_owned()));
    }
    let sql = "SELECT GRANTEE FROM information_schema.USER_PRIVILEGES
               WHERE PRIVILEGE_TYPE IN ('SUPER', 'BINLOG ADMIN')";
    let mighty = server.rows_for(sql, DOING)?;
    let mighty: Vec<String> = mighty.iter().map(|row| column(row, 0)).collect();
    let one = settings.game_users.iter().find(|user| {
        let user = literal(split_account(user).0);
        mighty.iter().any(|grantee| grantee.starts_with(&format!("{user}@")))
    });
    Ok(one.map(|user| format!("the game's account {user} may write without the log (SUPER)")))
}

/// The tables without what changes as the game goes on.
fn tables_hash(tables: &[Table]) -> Hash {
    let all: Vec<String> = tables.iter().map(|table| without_next_value(&table.create)).collect();
    Hash::of(all.join("\n").as_bytes())
}

/// Dumps the tables into `dir` while the game runs; where a dump lies there, fetches what was
/// logged since. The bytes written.
pub(super) fn prepare(
    server: &mut Server,
    settings: &MariadbSettings,
    definitions: &Definitions,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<u64>, DbError> {
    if definitions.tables.is_empty() {
        return Ok(None);
    }
    let folder = dir.join(AHEAD);
    private_dir(&folder)?;
    let hash = tables_hash(&definitions.tables);
    if let Some(mut ledger) = read_ledger(dir, settings).filter(|ledger| ledger.tables == hash) {
        let before = ledger.events.bytes;
        if fetch(server, settings, &mut ledger.events, &folder, progress)?.is_none() {
            write_ledger(&folder, &ledger)?;
            return Ok(Some(ledger.events.bytes - before));
        }
    }
    // What lies there is of no use any more, and its ledger goes first.
    discard(dir)?;
    private_dir(&folder.join(EVENTS))?;
    let path = folder.join(DUMP);
    let mut file = private_file(&path)?;
    let scope = Scope::TablesAtPlace;
    let dump_bytes = dump::write(settings, definitions, scope, &mut file, progress)?;
    file.sync_all().map_err(DbError::io("sync", &path))?;
    let Some(place) = place_of(&path)? else {
        discard(dir)?;
        return Ok(None);
    };
    sync_dir(&folder)?;
    let events = Events { files: Vec::new(), from: place.clone(), to: place, bytes: 0 };
    let database = connect::target(settings);
    // A crash before this leaves a dump without a ledger, which is made again.
    write_ledger(&folder, &Ledger { database, tables: hash, dump_bytes, events })?;
    Ok(Some(dump_bytes))
}

/// What was prepared, if it is of this database and is still whole.
fn read_ledger(dir: &Path, settings: &MariadbSettings) -> Option<Ledger> {
    let folder = dir.join(AHEAD);
    let ledger: Ledger = serde_json::from_slice(&fs::read(folder.join(LEDGER)).ok()?).ok()?;
    let about = fs::metadata(folder.join(DUMP)).ok()?;
    let whole = about.len() == ledger.dump_bytes && ledger.database == connect::target(settings);
    whole.then_some(ledger)
}

fn write_ledger(folder: &Path, ledger: &Ledger) -> Result<(), DbError> {
    let json = serde_json::to_vec(ledger).expect("texts and numbers");
    write_durably(&folder.join(LEDGER), &json)
}

/// Removes what was prepared.
fn discard(dir: &Path) -> Result<(), DbError> {
    let folder = dir.join(AHEAD);
    remove_if_there(&folder.join(LEDGER))?;
    remove_if_there(&folder.join(DUMP))?;
    remove_tree_if_there(&folder.join(RAW))?;
    remove_tree_if_there(&folder.join(EVENTS))
}

/// The place in the log that a dump says to belong to it.
fn place_of(dump: &Path) -> Result<Option<Place>, DbError> {
    let file = fs::File::open(dump).map_err(DbError::io("open", dump))?;
    let quoted = |text: &str, key: &str| {
        let rest = text.split_once(key)?.1;
        rest.split_once('\'').map(|(name, _)| name.to_owned())
    };
    for line in BufReader::new(file).split(b'\n').take(HEAD_LINES_MAX) {
        let line = line.map_err(DbError::io("read", dump))?;
        let line = String::from_utf8_lossy(&line);
        if !line.starts_with("-- CHANGE MASTER TO ") {
            continue;
        }
        let digits = line.split_once("MASTER_LOG_POS=").map_or("", |(_, rest)| rest);
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        if let (Some(file), Ok(position)) = (quoted(&line, "MASTER_LOG_FILE='"), digits.parse()) {
            return Ok(Some(Place { file, position }));
        }
    }
    Ok(None)
}

/// Fetches what the server logged between the end of `events` and now, and sifts it. Why that is
/// of no use, where it is not.
fn fetch(
    server: &mut Server,
    settings: &MariadbSettings,
    events: &mut Events,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<String>, DbError> {
    const DOING: &str = "reading the place in the binary log";
    let status = server.rows_for("SHOW MASTER STATUS", DOING)?.pop().unwrap_or_default();
    let now = Place { file: column(&status, 0), position: number(&status, 1).unwrap_or(0) };
    if now == events.to {
        return Ok(None);
    }
    let mut logs = Vec::new();
    for row in server.rows_for("SHOW BINARY LOGS", DOING)? {
        logs.push((column(&row, 0), number(&row, 1).unwrap_or(0)));
    }
    let at = |name: &str| logs.iter().position(|(log, _)| log == name);
    let (Some(first), Some(last)) = (at(&events.to.file), at(&now.file)) else {
        return Ok(Some(format!("the server has removed its log {}", events.to.file)));
    };
    // Repeated, an event is text, a third longer, with its table before it.
    let packet = server.text_for("SELECT @@GLOBAL.max_allowed_packet", DOING)?;
    let event_bytes_max = packet.parse::<u64>().unwrap_or(0) / 2;
    let keep = Keep { database: &settings.database, event_bytes_max };
    let raw = folder.join(RAW);
    remove_tree_if_there(&raw)?;
    private_dir(&raw)?;
    private_dir(&folder.join(EVENTS))?;
    let mut note = |done: u64, note: &str| {
        progress(Progress { done, total: done, unit: "bytes", note: note.to_owned() });
    };
    note(0, "fetching the binary log");
    if let Err(error) = run_fetch(settings, &events.to, &raw) {
        return Ok(Some(format!("the binary log could not be fetched: {error}")));
    }
    for (name, bytes) in logs.get(first..=last).unwrap_or_default() {
        let kept = format!("{:04}", events.files.len() + 1);
        let path = folder.join(EVENTS).join(&kept);
        let begin = if *name == events.to.file { events.to.position } else { FIRST };
        let end = if *name == now.file { now.position } else { *bytes };
        match binlog::sift(&raw.join(name), begin, Some(end), keep, &path)? {
            Sifted::UpTo(_) => {}
            Sifted::Unusable(why) => {
                return Ok(Some(format!("since the dump the server logged {why}")));
            }
        }
        events.bytes += fs::metadata(&path).map_err(DbError::io("look at", &path))?.len();
        events.files.push(kept);
        note(events.bytes, name);
    }
    events.to = now;
    remove_tree_if_there(&raw)?;
    sync_dir(&folder.join(EVENTS))?;
    Ok(None)
}

/// Has the server send its log from `from` on, as it lies there.
fn run_fetch(settings: &MariadbSettings, from: &Place, raw: &Path) -> Result<(), DbError> {
    let options = tool::option_file(settings)?;
    let mut command = tool::command(&tool::find(BINLOG_TOOLS)?, &options);
    command.args(["--read-from-remote-server", "--raw", "--to-last-log"]);
    command.arg(format!("--start-position={}", from.position));
    // Put before the name of each file.
    command.arg(format!("--result-file={}/", raw.display()));
    command.arg(&from.file);
    tool::read_from(command, &mut io::sink(), &mut |_| {}).map(drop)
}

/// Puts the dump that was prepared, and what was logged since, into the point. The inner error
/// says why that is not possible.
pub(super) fn take(
    server: &mut Server,
    settings: &MariadbSettings,
    definitions: &Definitions,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Result<(Events, u64), String>, DbError> {
    let folder = dir.join(AHEAD);
    let Some(mut ledger) = read_ledger(dir, settings) else {
        return Ok(Err("no dump was prepared".to_owned()));
    };
    if ledger.tables != tables_hash(&definitions.tables) {
        return Ok(Err("tables have been changed since the dump".to_owned()));
    }
    if let Some(why) = fetch(server, settings, &mut ledger.events, &folder, progress)? {
        return Ok(Err(why));
    }
    // A crash from here on leaves no ledger's dump: the next attempt dumps in the window.
    for name in [DUMP, EVENTS] {
        let (from, to) = (folder.join(name), dir.join(name));
        fs::rename(&from, &to).map_err(DbError::io("move", from))?;
    }
    sync_dir(dir)?;
    let bytes = ledger.dump_bytes + ledger.events.bytes;
    Ok(Ok((ledger.events, bytes)))
}

/// Repeats what was logged, on tables that hold what was dumped.
pub(super) fn replay(
    settings: &MariadbSettings,
    events: &Events,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    if events.files.is_empty() {
        return Ok(());
    }
    let files: Vec<PathBuf> = events.files.iter().map(|name| dir.join(EVENTS).join(name)).collect();
    let mut decode = std::process::Command::new(tool::find(BINLOG_TOOLS)?);
    decode.args(["--no-defaults", "--skip-annotate-row-events"]).args(&files);
    let options = tool::option_file(settings)?;
    let mut client = tool::command(&tool::find(CLIENT_TOOLS)?, &options);
    client.args(["--batch", "--binary-mode", "--max-allowed-packet=1G"]);
    // Found and ended by a later restore, should our process die while the client works.
    let lock = literal(&client_lock_name(settings));
    client.arg(format!("--init-command=DO GET_LOCK({lock}, 0); SET autocommit = 0"));
    client.arg(&settings.database);
    let (mut read, write) = io::pipe().map_err(DbError::io("make", "a pipe"))?;
    thread::scope(|scope| {
        let decoding = scope.spawn(move || {
            let mut out = write;
            tool::read_from(decode, &mut out, &mut |_| {})
        });
        let mut note = |done: u64| {
            let note = "repeating the binary log".to_owned();
            progress(Progress { done, total: events.bytes.max(done), unit: "bytes", note });
        };
        note(0);
        let replayed = tool::write_to(client, &mut read, &mut note);
        // Closed before the other end is waited for: it may be writing.
        drop(read);
        let decoded = decoding.join().expect("reading a log does not panic");
        // Where the client failed, the reading failed for it.
        replayed?;
        decoded.map(drop)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn a_dump_says_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.sql");
        let line = "-- CHANGE MASTER TO MASTER_LOG_FILE='bin''log.000001', MASTER_LOG_POS=1622;";
        fs::write(&path, format!("-- MariaDB dump\n{}\n", line.replace("''", "-"))).unwrap();
        let place = Place { file: "bin-log.000001".to_owned(), position: 1622 };
        assert_eq!(place_of(&path).unwrap(), Some(place));
        fs::write(&path, "-- MariaDB dump\n").unwrap();
        assert_eq!(place_of(&path).unwrap(), None);
    }
}
