//! `entracte up`: gate and daily duties together, in the foreground.

use super::App;
use crate::daemon;
use crate::exit::{Exit, Failure};

/// Run the gate and the daily duties together, in the foreground
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte up
  entracte up --target staging

As a service, run `entracte gate serve` and `entracte serve` apart, so that one can be restarted
without the other.")]
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    daemon::up(app, &config, &target)
}
