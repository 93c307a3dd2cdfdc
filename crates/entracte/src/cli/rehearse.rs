//! `entracte rehearse`: the scripts and the way back, on a restored copy of production.

use entracte_model::time::human_ms;
use entracte_release::rehearse;

use super::App;
use super::plan::{find, open};
use crate::exit::{Exit, Failure, of_fault};
use crate::report::out;

/// Run a release's scripts, and the way back, on a restored backup
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte rehearse
  entracte rehearse 1.1

It works in a private database that cannot reach the live one, and proves three things: the backup
restores, the scripts run, the way back is exact. What it measures goes into `entracte plan`.")]
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
    let text = format!(
        "{} {} on backup {} ({} old)\n  restore {}, scripts {} ({} statements), rollback point {}, way back {}, exact\n  touched: {}",
        app.paint.good("Rehearsed"),
        found.version,
        found.snapshot,
        human_ms(found.snapshot_age_ms),
        human_ms(found.restore_ms),
        human_ms(found.migrate_ms),
        found.statements,
        human_ms(found.point_ms),
        human_ms(found.way_back_ms),
        if found.touched.is_empty() {
            "nothing".into()
        } else {
            found.touched.join("\n           ")
        }
    );
    app.print(text, &serde_json::to_value(&found)?);
    Ok(Exit::Done)
}
