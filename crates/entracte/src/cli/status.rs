//! `entracte status`: what the next release would change, and what would be forgotten.

use entracte_model::manifest::Change;
use entracte_model::time::human_bytes;
use entracte_package::scripts;
use serde_json::json;

use super::App;
use super::draft::Draft;
use crate::exit::{Exit, Failure};

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
    let draft = Draft::look(&config, &target, &store, &next)?;
    let ready =
        draft.findings.is_empty() && draft.fragment_errors.is_empty() && draft.drift.is_empty();
    app.print(text(app, args, &draft), &value(&draft));
    Ok(if ready { Exit::Done } else { Exit::Refused })
}

fn text(app: &App, args: &Args, draft: &Draft) -> String {
    let paint = app.paint;
    let mut lines = vec![format!(
        "Production holds {} ({} files), since {}.",
        paint.bold(&draft.production.base.version),
        draft.base.files(),
        crate::report::local(draft.production.since)
    )];
    changes(app, args, draft, &mut lines);
    for script in &draft.scripts {
        lines.push(format!("  {} SQL {}", paint.accent("+"), script.display()));
    }
    if !draft.fragments.is_empty() {
        lines.push(format!("Patch notes: {} changes noted.", draft.fragments.len()));
    }
    for commit in &draft.unmentioned {
        lines.push(format!(
            "  {} commit {} {} is in no note",
            paint.warn("?"),
            commit.id.get(..8).unwrap_or(&commit.id),
            commit.subject
        ));
    }
    problems(app, draft, &mut lines);
    lines.join("\n")
}

fn changes(app: &App, args: &Args, draft: &Draft, lines: &mut Vec<String>) {
    let paint = app.paint;
    let changes = draft.base.changes_to(&draft.tree);
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
    let count = draft.findings.len() + draft.fragment_errors.len() + draft.drift.len();
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
    lines.push(paint.bad(format!("{count} things would be forgotten or go wrong:")).to_string());
    for finding in &draft.findings {
        lines.push(format!("  {} {finding}", paint.bad("✗")));
        lines.push(format!("      {}", paint.dim(finding.hint())));
    }
    for error in &draft.fragment_errors {
        lines.push(format!("  {} {error}", paint.bad("✗")));
    }
    for difference in &draft.drift {
        lines.push(format!("  {} after the scripts, {difference}", paint.bad("✗")));
    }
    if !draft.drift.is_empty() {
        let hint = "development's database has this and production would not: add it to a script";
        lines.push(format!("      {}", paint.dim(hint)));
    }
}

fn value(draft: &Draft) -> serde_json::Value {
    let ordered = scripts::order(draft.scripts.clone()).map(|ordered| ordered.up);
    let findings: Vec<_> = draft
        .findings
        .iter()
        .map(|finding| {
            json!({ "code": finding.code(), "text": finding.to_string(), "hint": finding.hint() })
        })
        .collect();
    json!({
        "production": draft.production.base.version,
        "changes": draft.base.changes_to(&draft.tree),
        "bytes": draft.delta.bytes(),
        "scripts": ordered.unwrap_or_default().iter().map(|script| script.name.to_string()).collect::<Vec<_>>(),
        "fragments": draft.fragments.iter().map(|fragment| &fragment.slug).collect::<Vec<_>>(),
        "findings": findings,
        "fragment_errors": draft.fragment_errors,
        "drift": draft.drift,
        "unmentioned_commits": draft.unmentioned.iter().map(|commit| &commit.id).collect::<Vec<_>>(),
        "ignored": draft.ignored,
    })
}
