//! `entracte log`: what a release did, or does.

use entracte_model::plan::ReleaseId;
use serde_json::json;

use super::{App, follow};
use crate::exit::{Exit, Failure};
use crate::report::Live;

/// Show what a release did, or follow what it does
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte log            (the last release)
  entracte log -f         (follow the one that runs)
  entracte log r7 --json")]
pub struct Args {
    /// The release; without it, the last one
    pub release: Option<ReleaseId>,
    /// Follow it to its end
    #[arg(long, short)]
    pub follow: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (_, target, store) = app.production()?;
    let id = match args.release {
        Some(id) => id,
        None => last(&store)?,
    };
    if args.follow {
        return follow::follow(app, &target, id, None);
    }
    let release = store.release(id)?;
    store.verify_chain(id)?;
    let mut live = Live::new(release.plan, app.paint, app.global.json, app.global.quiet);
    live.heading();
    let entries = store.entries(id, 0)?;
    if entries.is_empty() {
        app.print("nothing has happened yet", &json!({ "release": id, "entries": 0 }));
    }
    for entry in entries {
        live.show(entry);
    }
    Ok(Exit::Done)
}

/// The last release of a production.
pub fn last(store: &entracte_release::Store) -> Result<ReleaseId, Failure> {
    let newest = store.releases(1)?.into_iter().next();
    newest.map(|release| release.id).ok_or_else(|| Failure::refused("there was no release yet"))
}
