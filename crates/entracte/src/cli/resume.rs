//! `entracte resume`: goes on with a release whose process died, or that asked a person.

use super::{App, follow};
use crate::exit::{Exit, Failure};

/// Go on with a release that was interrupted, or that waits for a person
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte resume

It looks at each interrupted step first and goes on, or takes the release back; the result is the
same as if nothing had happened in between.")]
pub struct Args {
    /// Start it and do not follow it
    #[arg(long)]
    pub detach: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    take_up(app, args.detach, &["--retry"])
}

/// Takes the unfinished release up again.
pub fn take_up(app: &App, detach: bool, flags: &[&str]) -> Result<Exit, Failure> {
    let (config, target, store) = app.production()?;
    let Some(release) = store.unfinished()? else {
        return Err(
            Failure::refused("no release is unfinished").hint("`entracte history` lists them")
        );
    };
    let runner = follow::start(&config, &target, release.id, flags)?;
    if detach {
        return follow::detached(app, &target, release.id, runner);
    }
    follow::follow(app, &target, release.id, Some(runner))
}
