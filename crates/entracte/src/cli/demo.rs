//! `entracte demo`: the whole procedure on a small game, in under a minute.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::App;
use crate::demo::{Wishes, game, play, window};
use crate::exit::{Exit, Failure};
use crate::report::out;

/// The most lively players: each is a thread of this process.
const PLAYERS_MAX: i64 = 200;

/// Watch two releases of a small game while people play it: one that works, one that is taken back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte demo
  entracte demo --keep              (and look at the game and its news in a browser)
  entracte demo --players 60
  entracte demo --json | jq .releases

It needs nothing but this program, listens on 127.0.0.1 only, and touches nothing outside its folder.
Every figure of its report is measured in that run. It ends with 0 only if no request and no row was
lost and both releases ended as they should.")]
pub struct Args {
    /// Leave the game running to look at, until Ctrl-C, and keep the folders
    #[arg(long)]
    keep: bool,
    /// Play in this new or empty folder, and leave it there; without it, in a temporary one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many people play
    #[arg(long, value_name = "N", default_value_t = 24,
          value_parser = clap::value_parser!(u16).range(1..=PLAYERS_MAX))]
    players: u16,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    play(&Wishes {
        keep: args.keep,
        dir: args.dir.clone(),
        players: args.players.into(),
        json: app.global.json,
        quiet: app.global.quiet,
        paint: app.paint,
    })
}

/// Serve the game of the demo, or note what it holds (started by `entracte demo`)
#[derive(Debug, clap::Args)]
pub struct GameArgs {
    /// The tree to serve
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Its database
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", required_unless_present = "note")]
    listen: Option<SocketAddr>,
    /// Instead of serving, note in this folder what tree and database hold
    #[arg(long, value_name = "DIR", requires = "moment", conflicts_with = "listen")]
    note: Option<PathBuf>,
    /// The name of the note
    #[arg(long)]
    moment: Option<String>,
}

pub fn game(args: &GameArgs) -> Result<Exit, Failure> {
    if let (Some(dir), Some(moment)) = (&args.note, &args.moment) {
        window::note(dir, moment, &args.root, &args.database)?;
        return Ok(Exit::Done);
    }
    let listen = args.listen.ok_or_else(|| Failure::usage("where to listen? --listen ADDRESS"))?;
    // A game whose demo was killed has nobody to play for.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    let never = game::serve(&args.root, &args.database, listen, out::log)?;
    match never {}
}
