//! `entracte agent`: the far end of a connection, started over ssh on the machine of the game.

use std::path::PathBuf;

use super::App;
use crate::exit::{Exit, Failure};
use crate::remote::agent;

/// Answer a development machine, over standard input and output (started over ssh)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take no configuration from the connection: the one that is there holds
    #[arg(long)]
    fixed: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config: PathBuf = app.global.config.clone().ok_or_else(|| {
        Failure::usage("which configuration?").hint("entracte agent --config FILE --target NAME")
    })?;
    let target = app.global.target.clone().unwrap_or_else(|| "production".into());
    agent::serve(&config, &target, args.fixed)
}
