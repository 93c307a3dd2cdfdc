//! Backup: source and database go into the repository while the game still runs.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_backup::{BackupError, Reason, Repository, Snapshot, Tags};
use entracte_db::Database;
use entracte_host::lock::{Lock, LockError, Owner};
use entracte_model::RelPath;
use entracte_model::journal::Fault;
use entracte_model::progress::Probe;
use entracte_model::time::human_bytes;
use serde_json::{Value, json};

use super::Act;
use super::window_copy::{give_up_prepared, prepare};
use crate::context::Context;
use crate::fault::{Doing, broken, chain, refused};
use crate::target::Target;

/// How long another backup may be at work before a release gives up, in milliseconds.
const BUSY_MS_MAX: u64 = 30 * 60 * 1_000;

pub(crate) struct Backup;

impl Act for Backup {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        let _alone = alone(cx)?;
        let mut repository = match cx.repository.take() {
            Some(repository) => repository,
            None => open(cx)?,
        };
        let version = cx.plan.from.as_ref().map(|base| base.version.to_string());
        let release = Some(cx.plan.id.to_string());
        let tags = Tags { release, ..tags(cx.target, Reason::Release, version) };
        let mut snapshots = Vec::new();
        if cx.plan.from.is_some() {
            let target = cx.target;
            let tree = tree(cx, &mut repository, &target.root, &target.volatile, &tags)?;
            cx.info(format!("source: snapshot {} ({})", tree.short, human_bytes(tree.bytes)));
            snapshots.push(tree.id);
        }
        if cx.target.shared().is_dir() {
            let shared = cx.target.shared();
            let kept = tree(cx, &mut repository, &shared, &[], &tags)?;
            let size = human_bytes(kept.bytes);
            cx.info(format!("configuration and uploads: snapshot {} ({size})", kept.short));
            snapshots.push(kept.id);
        }
        cx.safe_point("backing up")?;
        if let Some(database) = cx.database()? {
            let name = dump_name(cx.target);
            let stop = cx.stop.clone();
            let mut progress = |done, total, unit: &str, note: &str| {
                cx.progress(done, total, unit, note);
            };
            let dumped = dump(&mut repository, name, database, &tags, &stop, &mut progress);
            let dump = dumped.or_else(|fault| {
                cx.safe_point("backing up the database")?;
                Err(fault)
            })?;
            cx.info(format!("database: snapshot {} ({})", dump.short, human_bytes(dump.bytes)));
            snapshots.push(dump.id);
        }
        cx.safe_point("preparing the rollback point")?;
        prepare(cx);
        Ok(json!({ "snapshots": snapshots }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        // One backup too many costs almost nothing; one too few could cost everything.
        Probe::NotDone
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        // One too many costs almost nothing. What goes is what was prepared for the rollback point.
        cx.info("the backups are kept");
        give_up_prepared(cx);
        Ok(())
    }
}

/// Opens the repository, and waits while another backup (the daily one) is at work in it.
pub(crate) fn open(cx: &mut Context<'_>) -> Result<Repository, Fault> {
    let backup = cx.target.backup.clone();
    let mut opened = None;
    let mut said = false;
    cx.wait(BUSY_MS_MAX, "another backup ends", |cx| {
        match Repository::open_or_init(&backup.repository, &backup.password_file) {
            Ok(repository) => {
                opened = Some(repository);
                Ok(true)
            }
            Err(BackupError::Busy { .. }) => {
                if !said {
                    cx.info("waiting for another backup to end");
                    said = true;
                }
                Ok(false)
            }
            Err(error) => Err(broken("opening the backup repository", &error)),
        }
    })?;
    opened.ok_or_else(|| refused("another backup has been at work for too long"))
}

/// Waits until no other backup of this production is at work. Without that a daily backup that
/// begins between two snapshots of this step would fail the release.
fn alone(cx: &mut Context<'_>) -> Result<Lock, Fault> {
    let (path, owner) = (cx.target.backup_lock(), Owner::this(&cx.plan.id.to_string()));
    let mut taken = None;
    let mut said = false;
    cx.wait(BUSY_MS_MAX, "another backup ends", |cx| match Lock::try_take(&path, &owner) {
        Ok(lock) => {
            taken = Some(lock);
            Ok(true)
        }
        Err(LockError::Busy { .. }) => {
            if !said {
                cx.info("waiting for another backup to end");
                said = true;
            }
            Ok(false)
        }
        Err(error) => Err(broken("taking the lock of the backups", &error)),
    })?;
    taken.ok_or_else(|| refused("another backup has been at work for too long"))
}

/// Stores one tree, unless somebody asks to stop meanwhile.
fn tree(
    cx: &mut Context<'_>,
    repository: &mut Repository,
    folder: &Path,
    skip: &[RelPath],
    tags: &Tags,
) -> Result<Snapshot, Fault> {
    let stop = cx.stop.clone();
    let mut progress = |p: entracte_backup::Progress| cx.progress(p.done, p.total, p.unit, &p.note);
    let stored = repository.store_tree(folder, skip, tags, &mut progress, &stop);
    stored.map_err(|error| {
        let doing = format!("backing up {}", folder.display());
        cx.safe_point(&doing).err().unwrap_or_else(|| broken(&doing, &error))
    })
}

/// What a snapshot is marked with.
pub(crate) fn tags(target: &Target, reason: Reason, version: Option<String>) -> Tags {
    let (project, target) = (target.project.clone(), target.environment.clone());
    Tags { project, target, version, release: None, reason }
}

/// What a dump is called: SQL, or the database file itself.
pub(crate) fn dump_name(target: &Target) -> &'static str {
    match target.database {
        Some(entracte_db::Settings::Sqlite(_)) => "database.sqlite",
        _ => "database.sql",
    }
}

/// Streams a consistent dump into the repository, and keeps what is in it beside it for the proof
/// by restoring; a dump that fails leaves no snapshot.
pub(crate) fn dump(
    repository: &mut Repository,
    name: &str,
    mut database: Box<dyn Database>,
    tags: &Tags,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64, &str, &str),
) -> Result<Snapshot, Fault> {
    let mut contents = None;
    // Both ways are told of: the dump into the repository, and what was stored read back.
    let progress = RefCell::new(progress);
    let mut write = |out: &mut dyn Write| {
        let mut out = Stoppable { out, stop };
        let dumped = database.dump_with_contents(&mut out, &mut |p| {
            (progress.borrow_mut())(p.done, p.total, p.unit, &p.note);
        });
        let (bytes, held) = dumped.map_err(|error| chain(&error))?;
        contents = Some(held);
        Ok(bytes)
    };
    let mut heard = |p: entracte_backup::Progress| {
        // The first way is told of by the dump itself, which knows how much there will be.
        if p.total > 0 {
            (progress.borrow_mut())(p.done, p.total, p.unit, &p.note);
        }
    };
    let snapshot = repository
        .store_stream(name, tags, &mut write, &mut heard)
        .doing("backing up the database")?;
    if let Some(contents) = contents {
        let words = serde_json::to_vec(&contents).doing("noting what the backup holds")?;
        repository.keep_contents(&snapshot.id, &words).doing("noting what the backup holds")?;
    }
    Ok(snapshot)
}

/// Takes nothing more once somebody asked to stop.
struct Stoppable<'a> {
    out: &'a mut dyn Write,
    stop: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(io::Error::other("asked to stop"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
