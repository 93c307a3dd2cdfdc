//! `entracte rehearse`: the scripts and the way back, on a restored copy of production.

use entracte_model::time::{human_bytes, human_ms};
use entracte_release::rehearse::{self, Rehearsal};

use super::App;
use super::plan::{find, open};
use crate::exit::{Exit, Failure, of_fault};
use crate::report::out;

/// Run a release's scripts, and the way back, on a restored backup
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte rehearse
  entracte rehearse 1.1

It works in a private database that cannot reach the live one, and proves that the backup restores,
that the scripts run, that the smoke tests pass, and that the way back is exact. Pages are asked for
where `rehearse.serve` says how to start the game. What it measures goes into `entracte plan`.")]
pub struct Args {
    /// A version or a package; without it, the newest package
    pub package: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, store) = app.production()?;
    let archive = open(&find(&config, args.package.as_deref())?, &target)?;
    let dir = tempfile::tempdir()?;
    let mut say = |text: &str| {
        if !app.global.json && !app.global.quiet {
            out::line(format!("  {text}"));
        }
    };
    let found = rehearse::rehearse(&target, &store, &archive, dir.path(), &mut say)
        .map_err(|fault| of_fault(&fault))?;
    app.print(text(app, &found), &serde_json::to_value(&found)?);
    Ok(Exit::Done)
}

fn text(app: &App, found: &Rehearsal) -> String {
    let mut lines = vec![
        format!(
            "{} {} on backup {} ({} old)",
            app.paint.good("Rehearsed"),
            found.version,
            found.snapshot,
            human_ms(found.snapshot_age_ms)
        ),
        format!(
            "  restore {}, scripts {} ({} statements), way back {}, exact",
            human_ms(found.restore_ms),
            human_ms(found.migrate_ms),
            found.statements,
            human_ms(found.way_back_ms)
        ),
        format!(
            "  rollback point: {}, {} on disk, {} inside the closed time",
            found.point_way,
            human_bytes(found.point_bytes),
            human_ms(found.point_ms)
        ),
        smoke(found),
    ];
    for slow in &found.slowest {
        let ms = human_ms(slow.ms);
        lines.push(format!("  {ms:>8}  {}, line {}: {}", slow.script, slow.line, slow.sql));
    }
    let touched = match found.touched.as_slice() {
        [] => "nothing".to_owned(),
        touched => touched.join("\n           "),
    };
    lines.push(format!("  touched: {touched}"));
    lines.join("\n")
}

fn smoke(found: &Rehearsal) -> String {
    let passed = format!(
        "  smoke tests: {} passed, {} of them pages of the new version",
        found.smoke, found.smoke_pages
    );
    match (found.smoke_left_out, found.smoke_pages) {
        (0, _) => passed,
        (left, 0) => format!(
            "{passed}; {left} left out (commands; pages need `rehearse.serve`, which starts the game)"
        ),
        (left, _) => format!("{passed}; {left} left out (commands act on production's machine)"),
    }
}
