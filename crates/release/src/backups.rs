//! Backups outside of releases: by hand, by the daily schedule, and their proof by restoring.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use entracte_backup::{Kind, Reason, Repository, Snapshot};
use entracte_db::{CONTENTS_FORMAT, Contents, Database, scratch};
use entracte_host::lock::{Lock, LockError, Owner};
use entracte_model::UnixMs;
use entracte_model::journal::{Fault, FaultKind};

use crate::clock::now;
use crate::fault::{Doing, broken, refused};
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
    stop: &AtomicBool,
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
    let mut snapshots = Vec::new();
    if target.root.exists() {
        let tree = repository
            .store_tree(
                &target.root,
                &target.volatile,
                &tags,
                &mut |p| progress(p.done, p.total, p.unit, &p.note),
                stop,
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
                stop,
            )
            .doing("backing up what persists")?;
        snapshots.push(kept);
    }
    if let Some(settings) = &target.database {
        let database = entracte_db::open(settings).doing("connecting to the database")?;
        snapshots.push(dump(&mut repository, dump_name(target), database, &tags, stop, progress)?);
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
    /// Whether they were compared with what was noted when the backup was made. A backup of an
    /// earlier version of this program, or of another program, has no such note.
    pub compared: bool,
}

/// Reads the whole repository, restores a dump (the newest, or the one whose id begins with `id`)
/// into a private instance in `dir`, and compares what came back with what went in.
pub fn check(
    target: &Target,
    dir: &Path,
    id: Option<&str>,
    progress: Progress<'_>,
) -> Result<Option<Proof>, Fault> {
    let repository = open(target)?;
    progress(0, 0, "bytes", "reading the whole repository");
    repository.check(true).doing("checking the repository")?;
    let Some(settings) = &target.database else { return Ok(None) };
    let snapshot = dump_to_prove(&repository, id)?;
    progress(0, 0, "bytes", "starting a private database");
    let instance = scratch::start(settings, dir).doing("starting a private database")?;
    let mut database =
        entracte_db::open(instance.settings()).doing("opening the private database")?;
    let began = Instant::now();
    load(&repository, &snapshot, &mut *database, progress)?;
    let restore_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    progress(0, 0, "bytes", "comparing what came back");
    let (_, found) = database
        .dump_with_contents(&mut std::io::sink(), &mut |_| {})
        .doing("reading the restored tables")?;
    let expected = contents(&repository, &snapshot)?;
    let differences =
        expected.as_ref().map(|expected| expected.differences(&found)).unwrap_or_default();
    if !differences.is_empty() {
        let message = format!(
            "backup {} did not bring back what was in it: {}",
            snapshot.short,
            differences.join("; ")
        );
        return Err(Fault::new(FaultKind::Broken, message).hint(
            "take another (`entracte backup now`) and prove that one; keep this one to look at",
        ));
    }
    repository.mark_restored(&snapshot.id, now(), restore_ms).doing("writing the proof down")?;
    Ok(Some(Proof {
        snapshot: snapshot.short.clone(),
        restore_ms,
        tables: found.tables.len(),
        rows: found.rows(),
        compared: expected.is_some(),
    }))
}

fn dump_to_prove(repository: &Repository, id: Option<&str>) -> Result<Snapshot, Fault> {
    let snapshots = repository.list().doing("listing the backups")?;
    let mut dumps: Vec<Snapshot> =
        snapshots.into_iter().filter(|snapshot| snapshot.kind == Kind::Database).collect();
    match id {
        Some(id) => only(dumps, id),
        None => {
            dumps.sort_by_key(|snapshot| snapshot.time);
            dumps.pop().ok_or_else(|| {
                refused("there is no backup of the database yet")
                    .hint("`entracte backup now` takes one")
            })
        }
    }
}

fn only(snapshots: Vec<Snapshot>, id: &str) -> Result<Snapshot, Fault> {
    let mut fitting = snapshots.into_iter().filter(|snapshot| snapshot.id.starts_with(id));
    match (fitting.next(), fitting.next()) {
        (Some(snapshot), None) if !id.is_empty() => Ok(snapshot),
        _ => Err(refused(format!("{id} is not exactly one backup that fits"))
            .hint("`entracte backup list` shows their ids and what they hold")),
    }
}

/// What was noted when the backup was made. A note in a later format is none: nothing can be said.
fn contents(repository: &Repository, snapshot: &Snapshot) -> Result<Option<Contents>, Fault> {
    let words = repository.contents(&snapshot.id).doing("reading what the backup holds")?;
    let contents: Option<Contents> = words.and_then(|words| serde_json::from_slice(&words).ok());
    Ok(contents.filter(|contents| contents.format == CONTENTS_FORMAT))
}

/// How long the last resort would take (the newest backup back into the database), by the restores
/// that were measured: in milliseconds, and of which backup. None where none was measured.
pub fn last_resort(snapshots: &[Snapshot]) -> Option<(u64, &Snapshot)> {
    let dumps = || snapshots.iter().filter(|snapshot| snapshot.kind == Kind::Database);
    let newest = dumps().max_by_key(|snapshot| snapshot.time)?;
    let measured = dumps().filter(|snapshot| snapshot.restore_ms.is_some());
    let measured = measured.max_by_key(|snapshot| snapshot.restored)?;
    // As long for each byte; a database that grew takes longer.
    let ms = u128::from(measured.restore_ms?) * u128::from(newest.bytes)
        / u128::from(measured.bytes.max(1));
    Some((u64::try_from(ms).unwrap_or(u64::MAX), newest))
}

/// Writes a backup out: a tree into an empty folder, a dump into a new file, or under its name into
/// a folder. A dump that was cut leaves a file that ends in `.part`, and no other.
pub fn extract(
    target: &Target,
    id: &str,
    into: &Path,
    progress: Progress<'_>,
) -> Result<(Snapshot, PathBuf), Fault> {
    let repository = open(target)?;
    let snapshot = only(repository.list().doing("listing the backups")?, id)?;
    let mut heard = |p: entracte_backup::Progress| progress(p.done, p.total, p.unit, &p.note);
    match snapshot.kind {
        Kind::Source => {
            repository.restore_tree(&snapshot.id, into, &mut heard).doing("restoring the tree")?;
            Ok((snapshot, into.to_owned()))
        }
        Kind::Database => {
            let file = if into.is_dir() { into.join(&snapshot.name) } else { into.to_owned() };
            if file.symlink_metadata().is_ok() {
                return Err(refused(format!("{} is there already", file.display()))
                    .hint("name a file that does not exist yet, or a folder"));
            }
            extract_dump(&repository, &snapshot, &file, &mut heard)?;
            Ok((snapshot, file))
        }
    }
}

fn extract_dump(
    repository: &Repository,
    snapshot: &Snapshot,
    file: &Path,
    heard: &mut dyn FnMut(entracte_backup::Progress),
) -> Result<(), Fault> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // What an earlier restore left there is begun again; a link is not written through.
    if part.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
        std::fs::remove_file(&part).doing("removing what an earlier restore left")?;
    }
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .doing("making the file of the dump")?;
    let written = repository
        .restore_stream(&snapshot.id, &mut out, heard)
        .doing("restoring the dump")
        .and_then(|_| out.sync_all().doing("writing the dump to disk"))
        // Never over a file that somebody made meanwhile.
        .and_then(|()| std::fs::hard_link(&part, file).doing("naming the dump"));
    let removed = std::fs::remove_file(&part).doing("removing the unfinished file");
    written.and(removed)
}

/// Puts a dump into the live database, which nobody else may be using: fenced, and with what is
/// in it now backed up before. Returns the backup of what was there.
pub fn restore_live(
    target: &Target,
    store: Option<&Store>,
    id: &str,
    progress: Progress<'_>,
) -> Result<(Snapshot, Snapshot), Fault> {
    let Some(settings) = &target.database else {
        return Err(refused("the target has no database"));
    };
    let owner = Owner::this("backup restore");
    let _alone = Lock::try_take(&target.lock(), &owner).map_err(|error| match error {
        LockError::Busy { .. } => refused("a release is at work").hint("wait for its end"),
        error @ LockError::Io { .. } => broken("taking the release lock", &error),
    })?;
    if let Some(release) =
        store.map(Store::unfinished).transpose().doing("reading the store")?.flatten()
        && release.start_at.is_none()
    {
        return Err(refused(format!("{} is not finished", release.id))
            .hint("`entracte resume` or `entracte abort` first"));
    }
    let mut repository = open(target)?;
    let snapshot = only(repository.list().doing("listing the backups")?, id)?;
    if snapshot.kind != Kind::Database {
        return Err(refused(format!("{} holds a source tree, not a dump", snapshot.short)));
    }
    let connect = || entracte_db::open(settings).doing("connecting to the database");
    let mut database = connect()?;
    let intent = database.fence_intent().doing("looking at what the fence will change")?;
    let patience = Duration::from_millis(target.pace.fence_ms);
    let restored = database
        .fence(patience, &mut |text| progress(0, 0, "bytes", text))
        .doing("waiting for the database to be quiet")
        .map_err(|fault| fault.hint("stop what still writes: cron jobs, workers, sessions"))
        .and_then(|_| {
            let production = store.map(Store::production).transpose();
            let production = production.doing("reading the store")?.flatten();
            let version = production.map(|production| production.base.version.to_string());
            let tags = tags(target, Reason::Manual, version);
            let (name, never) = (dump_name(target), AtomicBool::new(false));
            let before = dump(&mut repository, name, connect()?, &tags, &never, progress)?;
            load(&repository, &snapshot, &mut *database, progress).map_err(|fault| {
                fault.hint(format!(
                    "what was there before is backup {}: `entracte backup restore {} --database`",
                    before.short, before.short
                ))
            })?;
            Ok(before)
        });
    // However it went: what was locked is unlocked. A crash before this leaves the game's accounts
    // locked; the same command, or the next release, unlocks them.
    database.unfence(Some(&intent)).doing("lifting the fence of the database")?;
    Ok((snapshot, restored?))
}

/// Streams a dump out of the repository and into a database.
fn load(
    repository: &Repository,
    snapshot: &Snapshot,
    database: &mut dyn Database,
    progress: Progress<'_>,
) -> Result<(), Fault> {
    let total = snapshot.bytes;
    let (mut reader, mut writer) = std::io::pipe().doing("making a pipe")?;
    std::thread::scope(|scope| {
        let id = snapshot.id.as_str();
        let source = scope.spawn(move || repository.restore_stream(id, &mut writer, &mut |_| {}));
        let loaded = database
            .load(&mut reader, &mut |p| {
                progress(p.done, total.max(p.done), p.unit, "loading the dump");
            })
            .doing("loading the dump");
        // A loader that failed leaves a writer behind that waits for a reader.
        drop(reader);
        let read = source
            .join()
            .map_err(|_| refused("the reader of the backup died"))?
            .doing("reading the backup");
        loaded.and_then(|()| read.map(|_| ()))
    })
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
