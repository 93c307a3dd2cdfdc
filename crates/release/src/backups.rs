//! Backups outside of releases: by hand, by the daily schedule, and their proof by restoring.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use entracte_backup::{Reason, Repository, Snapshot};
use entracte_db::scratch;
use entracte_host::lock::{Lock, LockError, Owner};
use entracte_model::UnixMs;
use entracte_model::journal::Fault;

use crate::clock::now;
use crate::fault::{Doing, broken, refused};
use crate::rehearse::restore;
use crate::steps::backup::{dump, dump_name, tags};
use crate::store::Store;
use crate::target::Target;

/// For how long a backup that was asked for stays, in milliseconds: a week.
const PROTECTED_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// How far a backup has come: done, of how much, of what, and what is being done.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64, &str, &str);

/// Backs up source and database of a production as it is, and applies retention.
pub fn take(
    target: &Target,
    store: Option<&Store>,
    reason: Reason,
    progress: Progress<'_>,
) -> Result<Vec<Snapshot>, Fault> {
    let owner = Owner::this("backup");
    let _alone = Lock::try_take(&target.backup_lock(), &owner).map_err(|error| match error {
        LockError::Busy { .. } => refused("another backup of this production is at work")
            .hint("try again when it has ended"),
        error @ LockError::Io { .. } => broken("taking the lock of the backups", &error),
    })?;
    let mut repository = open_or_init(target)?;
    let production = store.map(Store::production).transpose().doing("reading the store")?.flatten();
    let tags =
        tags(target, reason, production.map(|production| production.base.version.to_string()));
    let stop = AtomicBool::new(false);
    let mut snapshots = Vec::new();
    if target.root.exists() {
        let tree = repository
            .store_tree(
                &target.root,
                &target.volatile,
                &tags,
                &mut |p| progress(p.done, p.total, p.unit, &p.note),
                &stop,
            )
            .doing("backing up the source")?;
        snapshots.push(tree);
    }
    // What persists is linked into the tree, and lies beside it from the first release on.
    if target.shared().is_dir() {
        let kept = repository
            .store_tree(
                &target.shared(),
                &[],
                &tags,
                &mut |p| progress(p.done, p.total, p.unit, &p.note),
                &stop,
            )
            .doing("backing up what persists")?;
        snapshots.push(kept);
    }
    if let Some(settings) = &target.database {
        let database = entracte_db::open(settings).doing("connecting to the database")?;
        snapshots.push(dump(&mut repository, dump_name(target), database, &tags, progress)?);
    }
    let all = repository.list().doing("listing the backups")?;
    let protected = protected(&all, now());
    repository
        .apply_retention(target.backup.retention, &protected, now())
        .doing("applying retention to the backups")?;
    Ok(snapshots)
}

/// Backups that retention leaves alone, whatever else was taken on their day: those that releases
/// and people asked for in the last days, and the newest that was proven.
fn protected(all: &[Snapshot], now: UnixMs) -> Vec<String> {
    let recent = |snapshot: &&Snapshot| {
        let daily = snapshot.tags.get("reason").is_some_and(|reason| reason == "daily");
        !daily && now.since(snapshot.time) < PROTECTED_MS
    };
    let proven = all.iter().filter(|snapshot| snapshot.restored.is_some());
    let newest = proven.max_by_key(|snapshot| snapshot.time);
    all.iter().filter(recent).chain(newest).map(|snapshot| snapshot.id.clone()).collect()
}

/// All backups, newest first.
pub fn list(target: &Target) -> Result<Vec<Snapshot>, Fault> {
    let mut snapshots = open(target)?.list().doing("listing the backups")?;
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time));
    Ok(snapshots)
}

/// What the proof of a backup found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Proof {
    /// The backup that was restored.
    pub snapshot: String,
    /// How long that took, in milliseconds.
    pub restore_ms: u64,
    /// Tables that came back.
    pub tables: usize,
    /// Rows that came back.
    pub rows: u64,
}

/// Reads the whole repository, and restores the newest dump into a private instance in `dir`.
pub fn check(target: &Target, dir: &Path) -> Result<Option<Proof>, Fault> {
    let repository = open(target)?;
    repository.check(true).doing("checking the repository")?;
    let Some(settings) = &target.database else { return Ok(None) };
    let snapshots = repository.list().doing("listing the backups")?;
    let newest = snapshots
        .iter()
        .filter(|snapshot| snapshot.kind == entracte_backup::Kind::Database)
        .max_by_key(|snapshot| snapshot.time)
        .ok_or_else(|| refused("there is no backup of the database yet"))?;
    let instance = scratch::start(settings, dir).doing("starting a private database")?;
    let mut database =
        entracte_db::open(instance.settings()).doing("opening the private database")?;
    let began = std::time::Instant::now();
    restore(&repository, &newest.id, &mut *database)?;
    let restore_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let sums = database.sums().doing("reading the restored tables")?;
    repository.mark_restored(&newest.id, now()).doing("writing the proof down")?;
    Ok(Some(Proof {
        snapshot: newest.short.clone(),
        restore_ms,
        tables: sums.tables.len(),
        rows: sums.tables.values().map(|table| table.rows).sum(),
    }))
}

/// Writes a backup out: a tree into an empty folder, a dump into a file.
pub fn extract(target: &Target, id: &str, into: &Path) -> Result<Snapshot, Fault> {
    let repository = open(target)?;
    let snapshots = repository.list().doing("listing the backups")?;
    let mut fitting = snapshots.into_iter().filter(|snapshot| snapshot.id.starts_with(id));
    let (Some(snapshot), None) = (fitting.next(), fitting.next()) else {
        return Err(refused(format!("{id} is not exactly one backup"))
            .hint("`entracte backup list` shows their ids"));
    };
    match snapshot.kind {
        entracte_backup::Kind::Source => {
            repository.restore_tree(&snapshot.id, into, &mut |_| {}).doing("restoring the tree")?;
        }
        entracte_backup::Kind::Database => {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(into)
                .doing("making the file of the dump")?;
            repository
                .restore_stream(&snapshot.id, &mut file, &mut |_| {})
                .doing("restoring the dump")?;
            file.sync_all().doing("writing the dump to disk")?;
        }
    }
    Ok(snapshot)
}

fn open(target: &Target) -> Result<Repository, Fault> {
    Repository::open(&target.backup.repository, &target.backup.password_file)
        .doing("opening the backup repository")
        .map_err(|fault| fault.hint("`entracte backup now` takes the first backup"))
}

fn open_or_init(target: &Target) -> Result<Repository, Fault> {
    Repository::open_or_init(&target.backup.repository, &target.backup.password_file)
        .doing("opening the backup repository")
}
