//! `entracte abort`: takes back a release that runs, was interrupted, or is planned.

use entracte_host::lock::Lock;
use rustix::process::{Pid, Signal};
use serde_json::json;

use super::{App, follow, resume};
use crate::exit::{Exit, Failure};

/// Take back a release that runs, was interrupted, or waits for its time
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte abort

Once players are in again, nothing is taken back silently: use `entracte rollback`.")]
pub struct Args {
    /// Ask for it and do not follow it
    #[arg(long)]
    pub detach: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (_, target, mut store) = app.production()?;
    let Some(release) = store.unfinished()? else {
        return Err(Failure::refused("no release is under way")
            .hint("to go back to the earlier version: `entracte rollback`"));
    };
    if let Some(owner) = Lock::holder(&target.lock()) {
        let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
        let pid =
            pid.ok_or_else(|| Failure::broken("the running release left no process number"))?;
        rustix::process::kill_process(pid, Signal::INT)?;
        if args.detach {
            let text = format!("{} was asked to stop at its next safe point", release.id);
            app.print(text, &json!({ "release": release.id, "runner": owner.pid }));
            return Ok(Exit::Done);
        }
        return follow::follow(app, &target, release.id, None);
    }
    if store.forget_unbegun(release.id)? {
        app.print(format!("{} was called off", release.id), &json!({ "called_off": release.id }));
        return Ok(Exit::Done);
    }
    resume::take_up(app, args.detach, &["--abort", "--retry"])
}
