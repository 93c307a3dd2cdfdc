//! `entracte serve`: the daily duties without the gate.

use super::App;
use crate::daemon;
use crate::exit::{Exit, Failure};

/// Look after the duties: planned and interrupted releases, daily backup
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte serve")]
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    daemon::serve(app, &config, &target)
}
