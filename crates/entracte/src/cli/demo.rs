//! `entracte demo`.
use super::App;
use crate::exit::{Exit, Failure};
/// Demo
#[derive(Debug, clap::Args)]
#[command(after_help = "entracte demo")]
pub struct Args {}
/// Game
#[derive(Debug, clap::Args)]
pub struct GameArgs {}
pub fn run(_: &App, _: &Args) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
pub fn game(_: &GameArgs) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
