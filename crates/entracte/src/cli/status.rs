//! `entracte status`: what the next release would change, and what would be forgotten.

use entracte_model::manifest::Change;
use entracte_model::time::human_bytes;
use entracte_package::scripts;
use serde_json::json;

use super::App;
use super::draft::Draft;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Show what the next release would change, and what would be forgotten
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte status
  entracte status --all
  entracte status --json | jq .findings")]
pub struct Args {
    /// List every changed file, however many there are
    #[arg(long)]
    all: bool,
}

/// Files that are listed before the rest is only counted.
const SHOWN_MAX: usize = 20;

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, store) = app.production()?;
    let next = store.production()?.map(|production| production.base.version.next_minor());
    let next = next.unwrap_or_else(|| "1.0.0".parse().expect("this is a version"));
    let draft = Draft::look(app, &config, &target, &store, &next, false)?;
    let frozen = store.setting("freeze")?;
    let text = text(app, args, &config, &draft, frozen.as_deref());
    let value = value(&draft, frozen.as_deref());
    let exit = if draft.troubles() > 0 {
        app.complain(text, &value);
        Exit::Refused
    } else {
        app.print(text, &value);
        Exit::Done
    };
    // The process ends here. To take the lists of very many files apart would be a tenth of what
    // it took to look at them.
    std::mem::forget(draft);
    Ok(exit)
}

fn text(app: &App, args: &Args, config: &Config, draft: &Draft, frozen: Option<&str>) -> String {
    let paint = app.paint;
    let mut lines = vec![format!(
        "Production holds {} ({}), since {}.",
        paint.bold(&draft.production.base.version),
        files(draft.base.files()),
        crate::report::local(draft.production.since)
    )];
    if let Some(why) = frozen {
        lines.push(paint.warn(format!("Releases are frozen: {why}")).to_string());
    }
    changes(app, args, draft, &mut lines);
    for script in &draft.scripts {
        let shown = script.strip_prefix(&config.dir).unwrap_or(script);
        lines.push(format!("  {} {}", paint.accent("+"), shown.display()));
    }
    if !draft.fragments.is_empty() {
        lines.push(format!("Patch notes: {} noted.", out::count(draft.fragments.len(), "change")));
    }
    problems(app, draft, &mut lines);
    if !draft.under_git {
        let text = "The tree is not under git: nobody can tell which of these files were meant.";
        lines.push(paint.dim(text).to_string());
    }
    lines.join("\n")
}

fn files(number: u64) -> String {
    out::count(usize::try_from(number).unwrap_or(usize::MAX), "file")
}

fn changes(app: &App, args: &Args, draft: &Draft, lines: &mut Vec<String>) {
    let paint = app.paint;
    let changes = draft.delta.changes(&draft.base);
    let count = |wanted| changes.values().filter(|change| **change == wanted).count();
    lines.push(format!(
        "The next release: {} created, {} modified, {} deleted, {} to send.",
        count(Change::Created),
        count(Change::Modified),
        count(Change::Deleted),
        human_bytes(draft.delta.bytes())
    ));
    let shown = if args.all { changes.len() } else { SHOWN_MAX };
    for (path, change) in changes.iter().take(shown) {
        lines.push(match change {
            Change::Created => format!("  {} {path}", paint.good("+")),
            Change::Modified => format!("  {} {path}", paint.warn("~")),
            Change::Deleted => format!("  {} {path}", paint.bad("-")),
        });
    }
    if changes.len() > shown {
        lines.push(format!("  … and {} more (--all)", changes.len() - shown));
    }
}

fn problems(app: &App, draft: &Draft, lines: &mut Vec<String>) {
    let paint = app.paint;
    let count = draft.troubles();
    if count == 0 {
        lines.push(match draft.is_empty() {
            true => "Nothing to release.".to_owned(),
            false => format!(
                "{} `entracte pack` makes the package.",
                paint.good("Nothing is forgotten.")
            ),
        });
        return;
    }
    let heading = format!("{} would be forgotten or go wrong:", out::count(count, "thing"));
    lines.push(paint.bad(heading).to_string());
    lines.extend(list(app, draft));
}

/// What speaks against packing, a line and a hint each.
pub fn list(app: &App, draft: &Draft) -> Vec<String> {
    let paint = app.paint;
    let mut lines = Vec::new();
    for finding in &draft.findings {
        lines.push(format!("  {} {finding}", paint.bad("✗")));
        lines.push(format!("      {}", paint.dim(finding.hint())));
    }
    for trouble in &draft.script_faults {
        lines.push(format!("  {} {trouble}", paint.bad("✗")));
        lines.push(format!("      {}", paint.dim(trouble.hint())));
    }
    for error in &draft.fragment_errors {
        lines.push(format!("  {} {error}", paint.bad("✗")));
    }
    if !draft.drift.is_empty() {
        lines.extend(super::diff::list(&paint, &draft.drift, SHOWN_MAX));
        let hint = "development's database differs from production with the scripts run; \
                    `entracte diff --sql` proposes what to put into a script";
        lines.push(format!("      {}", paint.dim(hint)));
    }
    lines
}

fn value(draft: &Draft, frozen: Option<&str>) -> serde_json::Value {
    let ordered = scripts::order(draft.scripts.clone()).map(|ordered| ordered.up);
    let finding = |code: &str, text: String, hint: String| json!({ "code": code, "text": text, "hint": hint });
    let found = draft.findings.iter();
    let scripts_found = draft.script_faults.iter();
    let findings: Vec<_> = found
        .map(|found| finding(found.code(), found.to_string(), found.hint()))
        .chain(
            scripts_found
                .map(|found| finding(found.code(), found.to_string(), found.hint().to_owned())),
        )
        .collect();
    json!({
        "ready": draft.troubles() == 0,
        "frozen": frozen,
        "under_git": draft.under_git,
        "production": draft.production.base.version,
        "changes": draft.delta.changes(&draft.base),
        "bytes": draft.delta.bytes(),
        "scripts": ordered.unwrap_or_default().iter().map(|script| script.name.to_string()).collect::<Vec<_>>(),
        "fragments": draft.fragments.iter().map(|fragment| &fragment.slug).collect::<Vec<_>>(),
        "findings": findings,
        "fragment_errors": draft.fragment_errors,
        "drift": draft.drift.objects,
        "drift_rows": draft.drift.rows,
        "unmentioned_commits": draft.unmentioned.iter().map(|commit| &commit.id).collect::<Vec<_>>(),
        "ignored": draft.ignored,
    })
}
