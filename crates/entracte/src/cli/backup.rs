//! `entracte backup`: takes, lists, proves and gives back.

use std::path::PathBuf;

use entracte_backup::{BackupError, Kind, Reason, Repository};
use entracte_model::time::{human_bytes, human_ms};
use entracte_release::{Store, backups};
use serde_json::json;

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
    /// Read the whole repository, and restore the newest database dump into a private instance
    Check,
    /// Write a backup out: a source tree into a new folder, a dump into a new file
    Restore {
        /// Its id, or how it begins
        id: String,
        /// Where to; must not exist yet
        into: PathBuf,
    },
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    match &args.what {
        What::Now => now(app, &target),
        What::List => list(app, &target),
        What::Check => check(app, &target),
        What::Restore { id, into } => {
            let snapshot = backups::extract(&target, id, into).map_err(|fault| of_fault(&fault))?;
            app.print(
                format!(
                    "{} {} into {}",
                    app.paint.good("Restored"),
                    snapshot.short,
                    into.display()
                ),
                &json!({ "snapshot": snapshot.id, "into": into }),
            );
            Ok(Exit::Done)
        }
    }
}

fn now(app: &App, target: &entracte_release::Target) -> Result<Exit, Failure> {
    let store = Store::open_to_read(&target.store())?;
    let bar = match app.paint.terminal && !app.global.json && !app.global.quiet {
        true => indicatif::ProgressBar::new(0),
        false => indicatif::ProgressBar::hidden(),
    };
    let taken =
        backups::take(target, store.as_ref(), Reason::Manual, &mut |done, total, unit, note| {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(format!("{unit} {note}"));
        })
        .map_err(|fault| of_fault(&fault))?;
    bar.finish_and_clear();
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

fn list(app: &App, target: &entracte_release::Target) -> Result<Exit, Failure> {
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
            format!("  {} {}", app.paint.good("restored"), crate::report::local(at))
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
    app.document(&json!(snapshots));
    Ok(Exit::Done)
}

fn check(app: &App, target: &entracte_release::Target) -> Result<Exit, Failure> {
    if !target.backup.repository.exists() {
        return Err(Failure::refused("there is no backup yet, so there is nothing to prove")
            .hint("`entracte backup now` takes the first one"));
    }
    let dir = tempfile::tempdir()?;
    let proof = backups::check(target, dir.path()).map_err(|fault| of_fault(&fault))?;
    let text = match &proof {
        Some(proof) => format!(
            "{} the repository is whole; {} restores in {}: {}, {} rows",
            app.paint.good("Good:"),
            proof.snapshot,
            human_ms(proof.restore_ms),
            out::count(proof.tables, "table"),
            proof.rows
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
