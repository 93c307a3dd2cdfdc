//! `entracte bootstrap`: puts this very program and the configuration onto the machine of the game.

use super::App;
use crate::exit::{Exit, Failure};
use crate::remote;

/// Put this program and the configuration onto the machine of the game
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte bootstrap
  entracte bootstrap staging
  entracte bootstrap --with target/x86_64-unknown-linux-musl/release/entracte

It goes over your own ssh. The program is put where `remote_binary` of the target says, only if it
runs there, whole or not at all.")]
pub struct Args {
    /// The target; as --target
    pub target: Option<String>,
    /// Another program than this one, for a machine of another kind
    #[arg(long, value_name = "FILE")]
    pub with: Option<std::path::PathBuf>,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let wanted = args.target.as_deref().or(app.global.target.as_deref());
    let usage = |error| Failure::usage(entracte_release::fault::chain(&error));
    let name = config.target_name(wanted).map_err(usage)?;
    let far = config.far(&name).map_err(usage)?.ok_or_else(|| {
        Failure::usage(format!("target `{name}` is on this machine: there is nothing to bring"))
            .hint("`ssh = \"deploy@host\"` in the target says that it is on another one")
    })?;
    remote::bootstrap::run(app, &config, &far, args.with.as_deref())
}
