//! `entracte backup`: takes, lists, proves and gives back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_backup::{BackupError, Kind, Reason, Repository, Snapshot};
use entracte_model::gate::Phase;
use entracte_model::time::{human_bytes, human_ms};
use entracte_release::{Store, Target, backups};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::App;
use crate::exit::{Exit, Failure, of_fault};
use crate::report::out;

/// Back up, list backups, prove one by restoring it, or write one out
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte backup now
  entracte backup list
  entracte backup check
  entracte backup restore 1f2e3d4c /tmp/game
  entracte backup restore 5a6b7c8d --database

The repository is in the restic format: `restic -r STATE/backup/trees snapshots` reads it, too.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Take a backup now
    Now,
    /// List the backups
    List,
    /// Read the whole repository, restore a database dump into a private instance, and compare
    Check {
        /// The dump to restore, by its id or how it begins; without it, the newest one
        id: Option<String>,
    },
    /// Write a backup out, or put a dump back into the live database
    Restore {
        /// Its id, or how it begins
        id: String,
        /// Where to: a new folder for a tree; for a dump a new file, or a folder to put it in
        #[arg(required_unless_present = "database")]
        into: Option<PathBuf>,
        /// Into the live database, in place of what is there; the gate must be closed
        #[arg(long, conflicts_with = "into")]
        database: bool,
        /// Do not ask
        #[arg(long, requires = "database")]
        yes: bool,
    },
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    match &args.what {
        What::Now => now(app, &target),
        What::List => list(app, &target),
        What::Check { id } => check(app, &target, id.as_deref()),
        What::Restore { id, into: Some(into), .. } => {
            let restored = backups::extract(&target, id, into, &mut app.meter().heard());
            let (snapshot, into) = restored.map_err(|fault| of_fault(&fault))?;
            let text = format!(
                "{} {} into {}",
                app.paint.good("Restored"),
                snapshot.short,
                into.display()
            );
            app.print(text, &json!({ "snapshot": snapshot.id, "into": into }));
            Ok(Exit::Done)
        }
        What::Restore { id, into: None, yes, .. } => restore_live(app, &target, id, *yes),
    }
}

fn now(app: &App, target: &Target) -> Result<Exit, Failure> {
    let store = Store::open_to_read(&target.store())?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The first asks; whoever asks twice does not want to wait.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let taken =
        backups::take(target, store.as_ref(), Reason::Manual, &stop, &mut app.meter().heard());
    let taken = taken.map_err(|fault| of_fault(&fault)).map_err(|failure| {
        match stop.load(Ordering::SeqCst) {
            true => {
                Failure::broken("stopped as asked: the backup that was being taken does not count")
                    .hint("earlier ones are whole; the next one removes what this one left")
            }
            false => failure,
        }
    })?;
    for snapshot in &taken {
        let text = format!(
            "{} {} {} ({})",
            app.paint.good("Backed up"),
            word(snapshot.kind),
            snapshot.short,
            human_bytes(snapshot.bytes)
        );
        app.say(text);
    }
    app.document(&json!(taken));
    Ok(Exit::Done)
}

/// Over the live database: closed gate, a person's word, and what is there now backed up first.
fn restore_live(app: &App, target: &Target, id: &str, yes: bool) -> Result<Exit, Failure> {
    let snapshot = the_one(target, id)?;
    let status = entracte_release::front::driver(target).status().map_err(super::front::failed)?;
    if status.phase != Phase::Closed {
        return Err(Failure::refused(format!(
            "the gate is {}: players would play into a database that is being replaced",
            status.phase.name()
        ))
        .hint("close it first: `entracte gate close --for 30m`"));
    }
    let price = format!(
        "What was written since {} goes; it stays in a backup that is taken first.",
        crate::report::local(snapshot.time)
    );
    if yes {
        app.say(&price);
    } else {
        super::deploy::somebody_to_ask(app)?;
        out::line(price);
        if !super::deploy::agreed(&format!(
            "Put backup {} into the live database?",
            snapshot.short
        ))? {
            return Err(Failure::refused("not restored; nothing was changed"));
        }
    }
    let store = Store::open_to_read(&target.store())?;
    let restored = backups::restore_live(target, store.as_ref(), id, &mut app.meter().heard());
    let (snapshot, before) = restored.map_err(|fault| of_fault(&fault))?;
    let text = format!(
        "{} {} into the database; what was there before is backup {}.\nThe gate is still closed: \
         look at the game as a tester (`entracte gate pass`), then `entracte gate open`.",
        app.paint.good("Restored"),
        snapshot.short,
        before.short
    );
    app.print(text, &json!({ "snapshot": snapshot.id, "before": before.id }));
    Ok(Exit::Done)
}

fn the_one(target: &Target, id: &str) -> Result<Snapshot, Failure> {
    let all = backups::list(target).map_err(|fault| of_fault(&fault))?;
    let mut fitting = all.into_iter().filter(|snapshot| snapshot.id.starts_with(id));
    match (fitting.next(), fitting.next()) {
        (Some(snapshot), None) => Ok(snapshot),
        _ => Err(Failure::refused(format!("{id} is not exactly one backup"))
            .hint("`entracte backup list` shows their ids")),
    }
}

fn list(app: &App, target: &Target) -> Result<Exit, Failure> {
    // No repository yet, or one that is just being made, is no backup yet: nothing broke.
    let backup = &target.backup;
    let mut snapshots = match Repository::open(&backup.repository, &backup.password_file) {
        Ok(repository) => repository.list()?,
        Err(BackupError::Missing { .. }) => vec![],
        Err(error) => return Err(error.into()),
    };
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time));
    if snapshots.is_empty() {
        app.say("no backup yet: `entracte backup now` takes the first one");
    }
    for snapshot in &snapshots {
        let proven = snapshot.restored.map_or(String::new(), |at| {
            let took =
                snapshot.restore_ms.map_or(String::new(), |ms| format!(" in {}", human_ms(ms)));
            format!("  {} {}{took}", app.paint.good("restored"), crate::report::local(at))
        });
        let version = snapshot.tags.get("version").map_or("", String::as_str);
        let reason = snapshot.tags.get("reason").map_or("", String::as_str);
        app.say(format!(
            "{}  {}  {:8} {:>9}  {version:8} {reason:8} {}{proven}",
            snapshot.short,
            crate::report::local(snapshot.time),
            word(snapshot.kind),
            human_bytes(snapshot.bytes),
            snapshot.name
        ));
    }
    if let Some((ms, newest)) = backups::last_resort(&snapshots) {
        app.say(format!(
            "The last resort, {} back into the database, would take about {}.",
            newest.short,
            human_ms(ms)
        ));
    }
    app.document(&json!(snapshots));
    Ok(Exit::Done)
}

fn check(app: &App, target: &Target, id: Option<&str>) -> Result<Exit, Failure> {
    if !target.backup.repository.exists() {
        return Err(Failure::refused("there is no backup yet, so there is nothing to prove")
            .hint("`entracte backup now` takes the first one"));
    }
    // Beside the repository: a temporary folder in memory would not hold a game's database.
    let dir = tempfile::Builder::new().prefix("check-").tempdir_in(&target.state)?;
    let proof = backups::check(target, dir.path(), id, &mut app.meter().heard())
        .map_err(|fault| of_fault(&fault))?;
    let text = match &proof {
        Some(proof) => format!(
            "{} the repository is whole; {} restores in {}: {}, {} rows, {}",
            app.paint.good("Good:"),
            proof.snapshot,
            human_ms(proof.restore_ms),
            out::count(proof.tables, "table"),
            proof.rows,
            match proof.compared {
                true => "all as they were when it was taken",
                false => "which nothing was noted of when it was taken",
            }
        ),
        None => format!("{} the repository is whole", app.paint.good("Good:")),
    };
    app.print(text, &json!({ "good": true, "proof": proof }));
    Ok(Exit::Done)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "source",
        Kind::Database => "database",
    }
}
