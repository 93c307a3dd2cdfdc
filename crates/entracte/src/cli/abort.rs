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
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<Exit, Failure> {
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
        return follow::follow(app, &target, release.id, None);
    }
    if store.forget_unbegun(release.id)? {
        app.print(format!("{} was called off", release.id), &json!({ "called_off": release.id }));
        return Ok(Exit::Done);
    }
    resume::take_up(app, false, &["--abort", "--retry"])
}
