//! The rollback point of a PostgreSQL database: a clone on the same server where nobody is in the
//! database and our account may make one, else a dump.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use entracte_model::Hash;
use entracte_model::way::{Way, Wish};
use serde::{Deserialize, Serialize};

use super::connect::{self, Refusal, Server, code, ident, literal};
use super::rights::{Rights, extensions_of_others};
use super::{dump, properties, sessions};
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{private_file, sync_dir, write_durably};
use crate::point::{self, Point, PointWay};
use crate::settings::PostgresSettings;

const DUMP: &str = "dump.sql";
const PROPERTIES: &str = "definitions.json";
/// The version from which a clone can be told to copy files instead of writing everything into
/// the server's log.
const FILE_COPY_SINCE: u32 = 150_000;
/// The version from which the copied files can share their blocks with the originals, where the
/// server's file system can.
const SHARED_BLOCKS_SINCE: u32 = 180_000;
/// How long sessions that have just ended are waited for.
const LINGER_MS_MAX: u64 = 1_000;
/// How long others are kept out until the two names are exchanged.
const SWAP_MS_MAX: u64 = 30_000;
const POLL_MS: u64 = 20;

/// What a PostgreSQL point consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresPoint {
    /// The server's version.
    pub version: String,
    /// The name of the clone on the server; none where it is a dump.
    pub clone: Option<String>,
}

pub(super) fn take(
    settings: &PostgresSettings,
    wish: Wish,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Point, DbError> {
    point::begin(dir)?;
    let mut server = connect::admin(settings)?;
    let version = server.text_for("SHOW server_version", "reading the version")?;
    let rights = Rights::read(&mut server)?;
    let bytes = "SELECT pg_database_size(current_database())";
    let bytes = server.text_for(bytes, "reading the size")?.parse().unwrap_or(0);
    let set = properties::of_database(&mut server, settings)?;
    let why_not = match wish.allows(Way::Clone) {
        true => obstacle(&mut server, settings, &rights)?,
        false => Some("another way is wished for".to_owned()),
    };
    let others_extensions = extensions_of_others(&mut server, &rights)?;
    // The clone needs the database to itself.
    drop(server);
    let name = names(settings, dir)?.point;
    let taken = match why_not {
        None => take_clone(settings, &name, bytes, progress)?,
        Some(why) => Err(why),
    };
    let database = connect::target(settings);
    let json = serde_json::to_vec(&set).expect("a list of texts");
    write_durably(&dir.join(PROPERTIES), &json)?;
    let hash = Some(Hash::of(&json));
    match taken {
        Ok(()) => {
            let about = PostgresPoint { version, clone: Some(name) };
            let way = PointWay::PostgresClone(about);
            point::complete(dir, database, way, bytes, Vec::new(), hash)
        }
        Err(why) => {
            if !wish.allows(Way::Dump) {
                return Err(point::not_as_wished(wish, &why));
            }
            if !others_extensions.is_empty() {
                return Err(DbError::Privilege {
                    missing: format!("ownership of {}", others_extensions.join(", ")),
                    needed_to: "restore a dump with these extensions".to_owned(),
                    hint: format!("no clone can be made instead, for {why}"),
                });
            }
            let path = dir.join(DUMP);
            let mut file = private_file(&path)?;
            let scope = dump::Scope::Everything;
            let bytes = dump::write(settings, scope, &mut file, bytes, progress)?;
            file.sync_all().map_err(DbError::io("sync", &path))?;
            sync_dir(dir)?;
            let way = PointWay::PostgresDump(PostgresPoint { version, clone: None });
            let notes = vec![format!("taken as a dump: {why}")];
            point::complete(dir, database, way, bytes, notes, hash)
        }
    }
}

/// Why no clone can be made, as far as that can be known beforehand.
pub(super) fn obstacle(
    server: &mut Server,
    settings: &PostgresSettings,
    rights: &Rights,
) -> Result<Option<String>, DbError> {
    match (rights.may_create_databases, rights.superuser) {
        (false, _) => Ok(Some(format!("the account {} lacks CREATEDB", rights.account))),
        (true, true) => Ok(None),
        (true, false) => properties::beyond_us(server, settings),
    }
}

/// The names of the databases that belong to the point in a directory.
struct Names {
    /// The point itself.
    point: String,
    /// What a restore is about to put in the place of the database.
    fresh: String,
    /// What the database was before.
    old: String,
}

fn names(settings: &PostgresSettings, dir: &Path) -> Result<Names, DbError> {
    let dir = fs::canonicalize(dir).map_err(DbError::io("look at", dir))?;
    let text = format!("{}\n{}", connect::target(settings), dir.display());
    let tag = &Hash::of(text.as_bytes()).to_string();
    let tag: String = tag.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let name = |what: &str| format!("entracte_{what}_{tag}");
    Ok(Names { point: name("point"), fresh: name("fresh"), old: name("old") })
}

/// Makes the clone. What an interrupted attempt left is replaced. The inner error says why a
/// dump has to do. A crash leaves the clone, which the next attempt in the directory replaces.
fn take_clone(
    settings: &PostgresSettings,
    name: &str,
    bytes: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Result<(), String>, DbError> {
    let mut server = match connect::outside(settings) {
        Ok(server) => server,
        Err(error) => return Ok(Err(format!("no other database can be entered ({error})"))),
    };
    let left = linger(&mut server, settings)?;
    if !left.is_empty() {
        return Ok(Err(format!("somebody is in the database: {}", left.join("; "))));
    }
    drop_database(&mut server, name)?;
    let mut note =
        |done: u64| progress(Progress { done, total: bytes, unit: "bytes", note: name.to_owned() });
    note(0);
    if let Err(error) = clone(&mut server, &settings.database, name) {
        let error = DbError::engine::<Refusal>("cloning the database")(error);
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        return Ok(Err(format!("{error}: {}", cause.unwrap_or_default())));
    }
    properties::close_to_others(&mut server, name)?;
    note(bytes);
    Ok(Ok(()))
}

fn clone(server: &mut Server, from: &str, to: &str) -> Result<(), Refusal> {
    let version = server.text("SHOW server_version_num")?.parse::<u32>().unwrap_or(0);
    let strategy = if version >= FILE_COPY_SINCE { " STRATEGY FILE_COPY" } else { "" };
    let create = format!("CREATE DATABASE {} TEMPLATE {}{strategy}", ident(to), ident(from));
    if version >= SHARED_BLOCKS_SINCE && server.run("SET file_copy_method = clone").is_ok() {
        if server.run(&create).is_ok() {
            return Ok(());
        }
        // Its file system cannot, or something else is in the way, which is said below.
        server.run("SET file_copy_method = copy")?;
    }
    server.run(&create).map(drop)
}

/// Waits a moment for sessions that are just going; who stays.
fn linger(server: &mut Server, settings: &PostgresSettings) -> Result<Vec<String>, DbError> {
    let deadline = Instant::now() + Duration::from_millis(LINGER_MS_MAX);
    loop {
        let left = sessions::others(server, &settings.database)?;
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(left.iter().map(|other| other.session.to_string()).collect());
        }
        thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn drop_database(server: &mut Server, name: &str) -> Result<(), DbError> {
    server
        .run_for(&format!("DROP DATABASE IF EXISTS {}", ident(name)), "dropping a clone")
        .map(drop)
}

pub(super) fn restore(
    settings: &PostgresSettings,
    point: &Point,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    match &point.way {
        PointWay::PostgresClone(PostgresPoint { clone: Some(name), .. }) => {
            restore_clone(settings, point, name, progress)
        }
        _ => {
            let path = point.dir.join(DUMP);
            let mut file = File::open(&path).map_err(DbError::io("open", &path))?;
            let total = file.metadata().map_err(DbError::io("look at", &path))?.len();
            dump::load(settings, &mut file, Some(total), progress)
        }
    }
}

/// Clones the point once more and exchanges the two names, in one transaction with what a clone
/// lacks. The point itself stays, for another restore. A crash before the transaction's end
/// leaves the database as it was, one behind it the point's; either may leave a clone, which the
/// next restore or the end of the point drops.
fn restore_clone(
    settings: &PostgresSettings,
    point: &Point,
    name: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let bad = |found: &str| DbError::BadPoint {
        dir: point.dir.clone(),
        expected: format!("the database {name} and its properties"),
        found: found.to_owned(),
    };
    let path = point.dir.join(PROPERTIES);
    let json = fs::read(&path).map_err(DbError::io("read", &path))?;
    if point.definitions != Some(Hash::of(&json)) {
        return Err(bad("properties that were changed"));
    }
    let set: Vec<String> = serde_json::from_slice(&json).map_err(|e| bad(&e.to_string()))?;
    let Names { fresh, old, .. } = names(settings, &point.dir)?;
    let mut server = connect::outside(settings)?;
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = {}", literal(name));
    if server.text_for(&there, "looking for the point")? != "1" {
        return Err(bad("no such database"));
    }
    let total = point.bytes;
    let mut note =
        |done: u64| progress(Progress { done, total, unit: "bytes", note: "cloning".to_owned() });
    note(0);
    drop_database(&mut server, &fresh)?;
    drop_database(&mut server, &old)?;
    clone(&mut server, name, &fresh).map_err(DbError::engine("cloning the point"))?;
    note(total / 2);
    exchange(&mut server, settings, [&fresh, &old], &set)?;
    note(total);
    drop_database(&mut server, &old)?;
    Ok(())
}

fn exchange(
    server: &mut Server,
    settings: &PostgresSettings,
    [fresh, old]: [&str; 2],
    set: &[String],
) -> Result<(), DbError> {
    const DOING: &str = "exchanging the database for its point";
    let live = ident(&settings.database);
    let deadline = Instant::now() + Duration::from_millis(SWAP_MS_MAX);
    loop {
        for other in sessions::others(server, &settings.database)? {
            sessions::terminate(server, other.session.id)?;
        }
        server.run_for("BEGIN", DOING)?;
        let first = server.run(&format!("ALTER DATABASE {live} RENAME TO {}", ident(old)));
        let done = match first {
            Ok(_) => {
                let second = format!("ALTER DATABASE {} RENAME TO {live}", ident(fresh));
                let second = server.run_for(&second, DOING);
                second.and_then(|_| properties::apply(server, set))
            }
            Err(error) if error.is(code::IN_USE) && Instant::now() < deadline => {
                server.run_for("ROLLBACK", DOING)?;
                thread::sleep(Duration::from_millis(POLL_MS));
                continue;
            }
            Err(error) if error.is(code::IN_USE) => {
                server.run_for("ROLLBACK", DOING)?;
                let left = sessions::others(server, &settings.database)?;
                return Err(DbError::StillWriting {
                    sessions: left.into_iter().map(|other| other.session).collect(),
                    hint: "end these sessions, or give our account pg_signal_backend".to_owned(),
                });
            }
            Err(error) => Err(DbError::engine::<Refusal>(DOING)(error)),
        };
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        server.run_for(end, DOING)?;
        return done;
    }
}

/// Drops the point: first what says that it is one, then its clones, then its directory.
pub(super) fn drop_point(settings: &PostgresSettings, point: &Point) -> Result<(), DbError> {
    crate::files::remove_if_there(&point.dir.join("point.json"))?;
    if let PointWay::PostgresClone(PostgresPoint { clone: Some(name), .. }) = &point.way {
        let mut server = connect::outside(settings)?;
        drop_database(&mut server, name)?;
        // The names of a directory that is gone cannot be asked for; nothing is left then.
        if point.dir.exists() {
            let Names { fresh, old, .. } = names(settings, &point.dir)?;
            drop_database(&mut server, &fresh)?;
            drop_database(&mut server, &old)?;
        }
    }
    point::drop_point(point)
}
