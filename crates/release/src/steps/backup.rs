//! Backup: source and database go into the repository while the game still runs.

use entracte_backup::{BackupError, Reason, Repository, Tags};
use entracte_db::Database;
use entracte_model::journal::Fault;
use entracte_model::progress::Probe;
use entracte_model::time::human_bytes;
use serde_json::{Value, json};

use super::Act;
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
        let mut repository = open(cx)?;
        let version = cx.plan.from.as_ref().map(|base| base.version.to_string());
        let release = Some(cx.plan.id.to_string());
        let tags = Tags { release, ..tags(cx.target, Reason::Release, version) };
        let mut snapshots = Vec::new();
        if cx.plan.from.is_some() {
            let stop = cx.stop.clone();
            let target = cx.target;
            let tree = repository
                .store_tree(
                    &target.root,
                    &target.volatile,
                    &tags,
                    &mut |p| cx.progress(p.done, p.total, p.unit, &p.note),
                    &stop,
                )
                .map_err(|error| {
                    let stopped = cx.safe_point("backing up the source").err();
                    stopped.unwrap_or_else(|| broken("backing up the source", &error))
                })?;
            cx.info(format!("source: snapshot {} ({})", tree.short, human_bytes(tree.bytes)));
            snapshots.push(tree.id);
        }
        if cx.target.shared().is_dir() {
            let (stop, shared) = (cx.stop.clone(), cx.target.shared());
            let kept = repository
                .store_tree(
                    &shared,
                    &[],
                    &tags,
                    &mut |p| cx.progress(p.done, p.total, p.unit, &p.note),
                    &stop,
                )
                .doing("backing up what persists")?;
            let size = human_bytes(kept.bytes);
            cx.info(format!("configuration and uploads: snapshot {} ({size})", kept.short));
            snapshots.push(kept.id);
        }
        cx.safe_point("backing up")?;
        if let Some(database) = cx.database()? {
            let name = dump_name(cx.target);
            let dump =
                dump(&mut repository, name, database, &tags, &mut |done, total, unit, note| {
                    cx.progress(done, total, unit, note);
                })?;
            cx.info(format!("database: snapshot {} ({})", dump.short, human_bytes(dump.bytes)));
            snapshots.push(dump.id);
        }
        Ok(json!({ "snapshots": snapshots }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        // One backup too many costs almost nothing; one too few could cost everything.
        Probe::NotDone
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

/// Streams a consistent dump into the repository; a dump that fails leaves no snapshot.
pub(crate) fn dump(
    repository: &mut Repository,
    name: &str,
    mut database: Box<dyn Database>,
    tags: &Tags,
    progress: &mut dyn FnMut(u64, u64, &str, &str),
) -> Result<entracte_backup::Snapshot, Fault> {
    repository
        .store_stream(
            name,
            tags,
            &mut |out| {
                database
                    .dump(out, &mut |p| progress(p.done, p.total, p.unit, &p.note))
                    .map_err(|error| chain(&error))
            },
            &mut |_| {},
        )
        .doing("backing up the database")
}
