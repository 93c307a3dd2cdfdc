//! Rehearsal: the scripts and the way back, on a restored copy of production's newest backup.
//!
//! It runs in a private instance that cannot reach the live database, and proves three things at
//! once: the backup restores, the scripts run, and the way back is exact.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use entracte_backup::Repository;
use entracte_db::{Database, StatementAt, StatementLog, scratch};
use entracte_model::UnixMs;
use entracte_model::journal::Fault;
use entracte_package::archive::Archive;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::fault::{Doing, broken, refused};
use crate::store::{Store, StoreError};
use crate::target::Target;

/// What a rehearsal found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The version that was rehearsed.
    pub version: String,
    /// When.
    pub at: UnixMs,
    /// The backup that it ran on, shortened id.
    pub snapshot: String,
    /// The age of that backup, in milliseconds.
    pub snapshot_age_ms: u64,
    /// How long the restore took, in milliseconds.
    pub restore_ms: u64,
    /// How long the scripts took, in milliseconds.
    pub migrate_ms: u64,
    /// How long the rollback point took, in milliseconds.
    pub point_ms: u64,
    /// How long the way back took, in milliseconds.
    pub way_back_ms: u64,
    /// How many statements ran.
    pub statements: u64,
    /// Tables that the scripts touched.
    pub touched: Vec<String>,
}

/// What a rehearsal reports while it goes on.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// Rehearses a package on the newest backup of the database, in the folder `dir`.
pub fn rehearse(
    target: &Target,
    store: &Store,
    archive: &Archive,
    dir: &Path,
    say: Say<'_>,
) -> Result<Rehearsal, Fault> {
    let Some(settings) = &target.database else {
        return Err(refused("the target has no database: there is nothing to rehearse"));
    };
    let version = archive.record().version.to_string();
    let backup = &target.backup;
    let repository = Repository::open(&backup.repository, &backup.password_file)
        .doing("opening the backup repository")
        .map_err(|fault| fault.hint("`entracte backup now` takes the first backup"))?;
    let snapshots = repository.list().doing("listing the backups")?;
    let newest = snapshots
        .iter()
        .filter(|snapshot| snapshot.kind == entracte_backup::Kind::Database)
        .max_by_key(|snapshot| snapshot.time)
        .ok_or_else(|| {
            refused("there is no backup of the database yet")
                .hint("take one: `entracte backup now`")
        })?;
    say(&format!("restoring backup {} into a private instance", newest.short));
    let instance = scratch::start(settings, dir).doing("starting a private database")?;
    let mut database =
        entracte_db::open(instance.settings()).doing("opening the private database")?;
    let began = Instant::now();
    restore(&repository, &newest.id, &mut *database)?;
    let restore_ms = elapsed_ms(began);
    let before = database.sums().doing("reading the restored tables")?;

    let point_dir = dir.join("point");
    std::fs::create_dir_all(&point_dir).doing("making the rollback point's folder")?;
    let began = Instant::now();
    let point = database.take_point(&point_dir, &mut |_| {}).doing("taking the rollback point")?;
    let point_ms = elapsed_ms(began);

    let scripts_dir = dir.join("scripts");
    std::fs::create_dir_all(&scripts_dir).doing("making the scripts' folder")?;
    let scripts: Vec<entracte_db::Script> = archive
        .unpack_scripts(&scripts_dir)
        .doing("reading the scripts")?
        .into_iter()
        .filter(|(name, _)| !matches!(store.script(name), Ok(Some(_))))
        .map(|(name, path)| entracte_db::Script::file(name, path).with(&target.placeholders))
        .collect();
    say(&format!("running {} scripts", scripts.len()));
    let began = Instant::now();
    let done = database
        .run_scripts(&scripts, &mut Nowhere, &AtomicBool::new(false), &mut |_| {})
        .map_err(|error| {
        broken("the scripts fail on a copy of production", &error)
            .hint("production was not touched; mend the script and pack again")
    })?;
    let migrate_ms = elapsed_ms(began);
    let after = database.sums().doing("reading the changed tables")?;
    let touched = before.differences(&after);

    say("going back");
    let began = Instant::now();
    database.restore_point(&point, &mut |_| {}).doing("going back")?;
    let way_back_ms = elapsed_ms(began);
    let back = database.sums().doing("reading the tables again")?;
    let different = before.differences(&back);
    if !different.is_empty() {
        let message = format!("the way back is not exact: {}", different.join("; "));
        return Err(refused(message).hint("do not deploy this; production was not touched"));
    }
    let rehearsal = Rehearsal {
        version,
        at: now(),
        snapshot: newest.short.clone(),
        snapshot_age_ms: now().since(newest.time),
        restore_ms,
        migrate_ms,
        point_ms,
        way_back_ms,
        statements: done.scripts.iter().map(|script| script.statements).sum(),
        touched,
    };
    keep(store, &rehearsal)?;
    Ok(rehearsal)
}

/// The last rehearsal of a version, if there was one.
pub fn last(store: &Store, version: &str) -> Result<Option<Rehearsal>, StoreError> {
    let kept = store.setting(&format!("rehearsal {version}"))?;
    Ok(kept.and_then(|json| serde_json::from_str(&json).ok()))
}

fn keep(store: &Store, rehearsal: &Rehearsal) -> Result<(), Fault> {
    let json = serde_json::to_string(rehearsal).doing("writing the rehearsal down")?;
    store
        .set_setting(&format!("rehearsal {}", rehearsal.version), Some(&json))
        .doing("writing the rehearsal down")
}

/// Streams a dump out of the repository and into a database.
pub fn restore(
    repository: &Repository,
    id: &str,
    database: &mut dyn Database,
) -> Result<(), Fault> {
    let (mut reader, mut writer) = std::io::pipe().doing("making a pipe")?;
    std::thread::scope(|scope| {
        let source = scope.spawn(move || repository.restore_stream(id, &mut writer, &mut |_| {}));
        let loaded = database.load(&mut reader, &mut |_| {}).doing("loading the dump");
        // A loader that failed leaves a writer behind that waits for a reader.
        drop(reader);
        let read = source
            .join()
            .map_err(|_| refused("the reader of the backup died"))?
            .doing("reading the backup");
        loaded.and_then(|()| read.map(|_| ()))
    })
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A rehearsal has no journal: its instance is thrown away.
pub(crate) struct Nowhere;

impl StatementLog for Nowhere {
    fn intent(&mut self, _: &StatementAt) -> Result<(), String> {
        Ok(())
    }
    fn done(&mut self, _: &StatementAt, _: u64, _: &[String]) -> Result<(), String> {
        Ok(())
    }
    fn failed(&mut self, _: &StatementAt, _: &str) -> Result<(), String> {
        Ok(())
    }
}
