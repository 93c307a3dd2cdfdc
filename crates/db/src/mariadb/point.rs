//! The rollback point of a MariaDB database: which way, and what both ways share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use entracte_model::Hash;
use entracte_model::way::{Way, Wish};
use serde::{Deserialize, Serialize};

use super::connect::{self, Server, literal};
use super::definitions::{self, Definitions, Table};
use super::point_binlog::Events;
use super::rights::Rights;
use super::{orphans, point_ahead, point_binlog, point_dump, point_files, rebuild};
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{private_dir, remove_tree_if_there, write_durably};
use crate::point::{self, Point, PointWay};
use crate::settings::MariadbSettings;

const DEFINITIONS: &str = "definitions.json";
/// How long the sessions of an interrupted restore are waited for.
const ORPHAN_MS_MAX: u64 = 120_000;
/// Kinds of tables whose rows are in this database. Others show rows of another server, which
/// a restore would change.
const KNOWN_ENGINES: [&str; 10] = [
    "InnoDB",
    "MyISAM",
    "Aria",
    "MEMORY",
    "CSV",
    "ARCHIVE",
    "MRG_MYISAM",
    "BLACKHOLE",
    "ROCKSDB",
    "TokuDB",
];

/// What a MariaDB point consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariadbPoint {
    /// The server's version.
    pub version: String,
    /// How many tables it holds.
    pub tables: u64,
    /// The tables that lie in a dump beside the files of the others.
    #[serde(default)]
    pub dumped: Vec<String>,
    /// What the server logged between the dump and the fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) events: Option<Events>,
}

/// How the tables of a point are kept.
struct Parts<'a> {
    /// By their files, in this directory of the server.
    files: Vec<&'a Table>,
    /// In a dump.
    dump: Definitions,
}

impl<'a> Parts<'a> {
    fn of(definitions: &'a Definitions, is_dumped: impl Fn(&str) -> bool) -> Self {
        let mut dump = definitions.clone();
        dump.tables.retain(|table| is_dumped(&table.name));
        let files = definitions.tables.iter().filter(|table| !is_dumped(&table.name)).collect();
        Self { files, dump }
    }
}

/// Copies the table files ahead of the window, as far as they will be what the point is made of.
pub(super) fn prepare(
    settings: &MariadbSettings,
    wish: Wish,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<u64>, DbError> {
    let mut server = connect::admin(settings)?;
    let rights = Rights::read(&mut server, &settings.database)?;
    let files = point_files::possible(&mut server, settings, &rights)?;
    let (true, Ok(data_dir)) = (wish.allows(Way::Files), files) else {
        let definitions = Definitions::read(&mut server)?;
        let obstacle = point_binlog::obstacle(&mut server, settings, &rights, &definitions.tables)?;
        if obstacle.is_some() || !wish.allows(Way::Binlog) {
            return Ok(None);
        }
        return point_binlog::prepare(&mut server, settings, &definitions, dir, progress);
    };
    let tables = definitions::tables(&mut server)?;
    let others = point_files::without_files(&mut server, &tables)?;
    let ours =
        |table: &&Table| !others.contains_key(&table.name) && point_files::has_whole_pages(table);
    let tables: Vec<&Table> = tables.iter().filter(ours).collect();
    private_dir(dir)?;
    let database = connect::target(settings);
    point_ahead::prepare(&mut server, &data_dir, &database, &tables, dir, progress)
}

pub(super) fn take(
    settings: &MariadbSettings,
    wish: Wish,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Point, DbError> {
    point::begin(dir)?;
    let mut server = connect::admin(settings)?;
    let definitions = Definitions::read(&mut server)?;
    let rights = Rights::read(&mut server, &settings.database)?;
    check(&definitions, &rights)?;
    let version = server.text_for("SELECT VERSION()", "reading the version")?;
    let mut about = MariadbPoint {
        version,
        tables: definitions.tables.len() as u64,
        dumped: Vec::new(),
        events: None,
    };
    let mut taking = Taking { server: &mut server, settings, definitions: &definitions, dir };
    let (mut notes, mut why) = (Vec::new(), Vec::new());
    let files = match wish.allows(Way::Files) {
        true => taking.files(&rights, progress)?,
        false => Err("another way is wished for".to_owned()),
    };
    let (way, bytes) = match files {
        Ok((dumped, bytes)) => {
            notes.extend(dumped.iter().map(|(name, why)| {
                format!("dumped beside the files of the others: the table {name} {why}")
            }));
            about.dumped = dumped.into_keys().collect();
            (PointWay::MariadbFiles(about), bytes)
        }
        Err(no_files) => {
            why.push(no_files);
            let logged = match wish.allows(Way::Binlog) {
                true => taking.binlog(&rights, progress)?,
                false => Err("another way is wished for".to_owned()),
            };
            match logged {
                Ok((events, bytes)) => {
                    about.events = Some(events);
                    (PointWay::MariadbBinlog(about), bytes)
                }
                Err(no_log) => {
                    why.push(no_log);
                    if !wish.allows(Way::Dump) {
                        return Err(point::not_as_wished(wish, &why.join("; ")));
                    }
                    notes.push(format!("taken as a dump: {}", why.join("; ")));
                    let bytes = point_dump::take(settings, &definitions, dir, progress)?;
                    (PointWay::MariadbDump(about), bytes)
                }
            }
        }
    };
    remove_tree_if_there(&dir.join("ahead"))?;
    let json = serde_json::to_vec(&definitions).expect("definitions are texts and numbers");
    write_durably(&dir.join(DEFINITIONS), &json)?;
    point::complete(dir, connect::target(settings), way, bytes, notes, Some(Hash::of(&json)))
}

/// What the ways share while a point is taken. An inner error says why a way was not possible.
struct Taking<'a> {
    server: &'a mut Server,
    settings: &'a MariadbSettings,
    definitions: &'a Definitions,
    dir: &'a Path,
}

impl Taking<'_> {
    /// The tables that could not be had as files and lie in a dump, and the size of everything.
    #[expect(clippy::type_complexity, reason = "one caller, which takes it apart at once")]
    fn files(
        &mut self,
        rights: &Rights,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Result<(BTreeMap<String, String>, u64), String>, DbError> {
        let data_dir = match point_files::possible(self.server, self.settings, rights)? {
            Ok(data_dir) => data_dir,
            Err(why) => return Ok(Err(why)),
        };
        let definitions = self.definitions;
        let dumped = point_files::without_files(self.server, &definitions.tables)?;
        if let (Some((name, why)), true) =
            (dumped.first_key_value(), dumped.len() == definitions.tables.len())
        {
            return Ok(Err(format!("the table {name} {why}, and so are the others")));
        }
        let parts = Parts::of(definitions, |name| dumped.contains_key(name));
        let database = connect::target(self.settings);
        let copied = point_files::take(
            self.server,
            self.settings,
            &data_dir,
            &database,
            &parts.files,
            self.dir,
            progress,
        );
        match copied {
            Ok(mut bytes) => {
                if !dumped.is_empty() {
                    bytes += point_dump::take(self.settings, &parts.dump, self.dir, progress)?;
                }
                Ok(Ok((dumped, bytes)))
            }
            Err(error) => {
                point_files::give_up(self.server, self.dir)?;
                Ok(Err(format!("the table files could not be copied: {error}")))
            }
        }
    }

    fn binlog(
        &mut self,
        rights: &Rights,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Result<(Events, u64), String>, DbError> {
        let tables = &self.definitions.tables;
        match point_binlog::obstacle(self.server, self.settings, rights, tables)? {
            Some(why) => Ok(Err(why)),
            None => {
                let (server, definitions) = (&mut *self.server, self.definitions);
                point_binlog::take(server, self.settings, definitions, self.dir, progress)
            }
        }
    }
}

/// Refuses now what a restore could not bring back exactly.
fn check(definitions: &Definitions, rights: &Rights) -> Result<(), DbError> {
    let strange: Vec<String> = definitions
        .tables
        .iter()
        .filter(|table| {
            !KNOWN_ENGINES.iter().any(|known| known.eq_ignore_ascii_case(&table.engine))
        })
        .map(|table| format!("{} ({})", table.name, table.engine))
        .collect();
    if !strange.is_empty() {
        return Err(DbError::Unsupported {
            what: format!("tables whose rows are kept elsewhere: {}", strange.join(", ")),
            hint: "move them into a database of their own".to_owned(),
        });
    }
    let others = rebuild::of_other_definers(definitions, &rights.account);
    if !others.is_empty() && !rights.global("SET USER") {
        let names: Vec<String> = others
            .iter()
            .map(|program| {
                format!("{} {} of {}", program.kind.to_lowercase(), program.name, program.definer)
            })
            .collect();
        return Err(DbError::Privilege {
            missing: "SET USER".to_owned(),
            needed_to: format!("restore what other accounts defined: {}", names.join(", ")),
            hint: format!("GRANT SET USER ON *.* TO {}", connect::account(&rights.account)),
        });
    }
    Ok(())
}

/// Back to the point: everything is dropped and made again. A crash in the middle leaves a
/// database that lacks tables; the next attempt begins from the start.
pub(super) fn restore(
    settings: &MariadbSettings,
    point: &Point,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let definitions = read_definitions(point)?;
    let mut server = connect::admin(settings)?;
    take_lock(&mut server, settings)?;
    server.run_for("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", "preparing the restore")?;
    rebuild::empty(&mut server, &definitions.programs)?;
    rebuild::sequences(&mut server, &definitions.sequences)?;
    match &point.way {
        PointWay::MariadbFiles(about) => {
            let rights = Rights::read(&mut server, &settings.database)?;
            let data_dir =
                point_files::possible(&mut server, settings, &rights)?.map_err(|why| {
                    DbError::BadPoint {
                        dir: point.dir.clone(),
                        expected: "the server's data directory within reach, as when it was taken"
                            .to_owned(),
                        found: why,
                    }
                })?;
            let parts = Parts::of(&definitions, |name| about.dumped.iter().any(|d| d == name));
            let files = &parts.files;
            point_files::restore(&mut server, &data_dir, files, &point.dir, progress)?;
            if !about.dumped.is_empty() {
                point_dump::restore(settings, &parts.dump, &point.dir, progress)?;
            }
        }
        PointWay::MariadbDump(_) => {
            point_dump::restore(settings, &definitions, &point.dir, progress)?;
        }
        PointWay::MariadbBinlog(about) => {
            point_dump::restore(settings, &definitions, &point.dir, progress)?;
            if let Some(events) = &about.events {
                point_binlog::replay(settings, events, &point.dir, progress)?;
            }
            // The log told of these, too, as far as they had been used up by then.
            rebuild::drop_sequences(&mut server, &definitions.sequences)?;
            rebuild::sequences(&mut server, &definitions.sequences)?;
        }
        PointWay::SqliteCopy { .. } | PointWay::PostgresClone(_) | PointWay::PostgresDump(_) => {
            return Err(DbError::BadPoint {
                dir: point.dir.clone(),
                expected: "a point of a MariaDB database".to_owned(),
                found: "a point of another engine".to_owned(),
            });
        }
    }
    rebuild::next_values(&mut server, &definitions)?;
    rebuild::programs(&mut server, &definitions)
}

fn read_definitions(point: &Point) -> Result<Definitions, DbError> {
    let path: PathBuf = point.dir.join(DEFINITIONS);
    let json = fs::read(&path).map_err(DbError::io("read", &path))?;
    let bad = |expected: &str, found: String| DbError::BadPoint {
        dir: point.dir.clone(),
        expected: expected.to_owned(),
        found,
    };
    if point.definitions != Some(Hash::of(&json)) {
        return Err(bad("the definitions that were written", "other ones".to_owned()));
    }
    serde_json::from_slice(&json).map_err(|error| bad("readable definitions", error.to_string()))
}

/// Makes sure that no session of an interrupted restore is still at work, and that a later one
/// can find ours.
pub(super) fn take_lock(server: &mut Server, settings: &MariadbSettings) -> Result<(), DbError> {
    const DOING: &str = "waiting for an earlier restore to end";
    let name = literal(&rebuild::lock_name(&settings.database));
    let deadline = Instant::now() + Duration::from_millis(ORPHAN_MS_MAX);
    loop {
        if server.text_for(&format!("SELECT GET_LOCK({name}, 1)"), DOING)? == "1" {
            break;
        }
        let holder = server.text_for(&format!("SELECT IS_USED_LOCK({name})"), DOING)?;
        if let Ok(id) = holder.parse() {
            let left = deadline.saturating_duration_since(Instant::now());
            orphans::end(settings, &[id], left)?;
        }
    }
    // The client program holds a lock of its own while it loads.
    let client = literal(&client_lock_name(settings));
    let holder = server.text_for(&format!("SELECT IS_USED_LOCK({client})"), DOING)?;
    match holder.parse() {
        Ok(id) => orphans::end(settings, &[id], deadline.saturating_duration_since(Instant::now())),
        Err(_) => Ok(()),
    }
}

pub(super) fn client_lock_name(settings: &MariadbSettings) -> String {
    format!("{} client", rebuild::lock_name(&settings.database))
}
