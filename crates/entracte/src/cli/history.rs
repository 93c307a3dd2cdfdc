//! `entracte history`: what was released, when, and how it ended.

use entracte_model::journal::Outcome;
use entracte_model::time::human_ms;
use entracte_release::history::closed_ms;
use entracte_release::store::Release;
use serde_json::json;

use super::App;
use crate::exit::{Exit, Failure};

/// List releases: what, when, closed for how long, and how it ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte history
  entracte history --json
  entracte history --freeze \"tournament until Sunday\"
  entracte history --unfreeze")]
pub struct Args {
    /// How many
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: u32,
    /// Let nobody deploy, for this reason
    #[arg(long, value_name = "REASON", conflicts_with = "unfreeze")]
    freeze: Option<String>,
    /// Let people deploy again
    #[arg(long)]
    unfreeze: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (_, _, store) = app.production()?;
    if args.freeze.is_some() || args.unfreeze {
        if args.freeze.as_ref().is_some_and(|why| why.trim().is_empty()) {
            return Err(Failure::usage("why? A freeze without a reason is thawed by the next one")
                .hint("entracte history --freeze \"tournament until Sunday\""));
        }
        store.set_setting("freeze", args.freeze.as_deref())?;
        let text = match args.unfreeze {
            true => "Releases go on.",
            false => "Nobody deploys until `entracte history --unfreeze`.",
        };
        app.print(text, &json!({ "frozen": args.freeze }));
        return Ok(Exit::Done);
    }
    let mut values = Vec::new();
    if let Some(why) = store.setting("freeze")? {
        app.say(app.paint.warn(format!("Releases are frozen: {why}")));
    }
    for release in store.releases(args.limit)? {
        let closed = closed_ms(&release.plan, &store.entries(release.id, 0)?);
        app.say(line(app, &release, closed));
        values.push(json!({
            "release": release.id, "from": release.plan.from.as_ref().map(|base| &base.version),
            "to": release.plan.to.version, "planned": release.created, "start_at": release.start_at,
            "closed_ms": closed, "outcome": release.outcome,
        }));
    }
    if values.is_empty() {
        app.say("no release yet");
    }
    app.document(&json!(values));
    Ok(Exit::Done)
}

fn line(app: &App, release: &Release, closed: Option<u64>) -> String {
    let paint = app.paint;
    let from =
        release.plan.from.as_ref().map_or("nothing".to_owned(), |base| base.version.to_string());
    let outcome = match (&release.outcome, release.start_at) {
        (Some(Outcome::Released { .. }), _) => paint.good("released").to_string(),
        (Some(Outcome::Unwell { fault }), _) => {
            format!("{}: {}", paint.bad("unwell"), fault.message)
        }
        (Some(Outcome::TakenBack { fault }), _) => {
            let why: String = fault.message.chars().take(70).collect();
            format!("{}: {why}", paint.warn("taken back"))
        }
        (None, Some(at)) => format!("planned for {}", crate::report::local(at)),
        (None, None) => paint.bad("not finished").to_string(),
    };
    let closed = closed.map_or("-".to_owned(), human_ms);
    format!(
        "{:5} {}  {from} → {:8} closed {closed:>8}  {outcome}",
        release.id.to_string(),
        crate::report::local(release.created),
        release.plan.to.version.to_string()
    )
}
