//! A target on another machine: the same program there does the work, asked over the user's own
//! ssh. One connection serves a whole command, a release included.
//!
//! What needs the development tree (`status`, `pack`, `plan`, and the beginning of `deploy`) runs
//! here, on an excerpt of production's store; all else runs there, and is shown here.

pub mod agent;
pub mod bootstrap;
pub mod compare;
mod deploy;
mod edits;
mod follow;
mod link;
mod mirror;
mod started;
mod there;
mod upload;

use std::sync::{MutexGuard, PoisonError};

use entracte_db::Script;
use entracte_host::wire::message::Declared;
use entracte_model::{Hash, Manifest, Version};
use entracte_release::{Store, Target};

use crate::cli::adopt::Seen;
use crate::cli::{App, Command};
use crate::config::{Config, Far};
use crate::exit::{Exit, Failure};

pub use compare::{Asked, Question};
pub use link::Remote;

/// Carries a command out on the machine of the game, where the target is on another one and the
/// command is one for that machine. Nothing where it is not.
pub fn elsewhere(app: &App, command: &Command) -> Result<Option<Exit>, Failure> {
    use Command as C;
    match command {
        C::Log(args) if args.follow => {
            with_far(app, |config, far| follow::last_or(app, config, far, args.release))
        }
        C::Log(_) | C::History(_) | C::Backup(_) => {
            with_far(app, |config, far| there::run(app, config, far))
        }
        C::Verify(args) if args.package.is_none() => {
            with_far(app, |config, far| there::run(app, config, far))
        }
        C::Gate(args) if args.is_service() => with_far(app, |_, far| Err(service(&far))),
        C::Up(_) | C::Serve(_) => with_far(app, |_, far| Err(service(&far))),
        C::Gate(_) => with_far(app, |config, far| there::run(app, config, far)),
        C::Doctor(_) => with_far(app, |config, far| there::doctor(app, config, far)),
        C::Rehearse(args) => with_far(app, |config, far| there::rehearse(app, config, far, args)),
        C::Deploy(args) => with_far(app, |config, far| deploy::run(app, config, far, args)),
        C::Rollback(args) => with_far(app, |config, far| started::rollback(app, config, far, args)),
        C::Resume(args) => with_far(app, |config, far| started::resume(app, config, far, args)),
        C::Abort(args) => with_far(app, |config, far| started::abort(app, config, far, args)),
        _ => Ok(None),
    }
}

/// Does `work` where the target is on another machine.
fn with_far(
    app: &App,
    work: impl FnOnce(&Config, Far) -> Result<Exit, Failure>,
) -> Result<Option<Exit>, Failure> {
    let config = app.config()?;
    match far(app, &config)? {
        Some(far) => work(&config, far).map(Some),
        None => Ok(None),
    }
}

fn far(app: &App, config: &Config) -> Result<Option<Far>, Failure> {
    let usage = |error| Failure::usage(entracte_release::fault::chain(&error));
    let name = config.target_name(app.global.target.as_deref()).map_err(usage)?;
    config.far(&name).map_err(usage)
}

fn service(far: &Far) -> Failure {
    let message = format!("this runs on {}, not here", far.at.host);
    Failure::usage(message).hint(format!(
        "there, as a service: `{} --config {} …` (docs/ssh.md has the units)",
        far.binary, far.config
    ))
}

/// Production's store as a development machine needs it, where production is elsewhere.
pub fn mirror(app: &App, config: &Config, target: &Target) -> Result<Option<Store>, Failure> {
    let Some(far) = far(app, config)? else { return Ok(None) };
    with_link(app, config, far, |remote| mirror::store(remote, config, target)).map(Some)
}

/// Keeps a note with production, where production is elsewhere.
pub fn remember(app: &App, name: &str, value: Option<&str>) -> Result<(), Failure> {
    let mut link = linked(app);
    let (Some(value), Some(remote)) = (value, link.as_mut()) else { return Ok(()) };
    remote.remember(name, value)
}

/// Takes production as it stands, where it is elsewhere; what was done then.
pub fn baseline(app: &App, config: &Config, version: &Version) -> Result<Option<String>, Failure> {
    let Some(far) = far(app, config)? else { return Ok(None) };
    with_link(app, config, far, |remote| {
        remote.configure()?;
        let version = version.to_string();
        let value = remote.said(&["init", "--no-key", "--production-version", &version])?;
        let did = value["did"].as_array().and_then(|did| did.first()).and_then(|did| did.as_str());
        Ok(format!("{}: {}", remote.host(), did.unwrap_or("production is known")))
    })
    .map(Some)
}

/// Asks for a comparison of the databases, where production is elsewhere.
pub fn compare(
    app: &App,
    config: &Config,
    question: &Question,
    scripts: &[Script],
) -> Result<Option<Asked>, Failure> {
    let Some(far) = far(app, config)? else { return Ok(None) };
    with_link(app, config, far, |remote| {
        remote.note_configuration();
        remote.compare(question, scripts)
    })
    .map(Some)
}

/// What was changed by hand in production, where it is elsewhere.
pub fn edits(app: &App, config: &Config, base: &Manifest) -> Result<Option<Seen>, Failure> {
    let Some(far) = far(app, config)? else { return Ok(None) };
    with_link(app, config, far, |remote| remote.edits(base)).map(Some)
}

/// Makes production count as it stands, where it is elsewhere; whether it is.
pub fn adopt(app: &App, config: &Config, base: &Hash, real: &Hash) -> Result<bool, Failure> {
    let Some(far) = far(app, config)? else { return Ok(false) };
    with_link(app, config, far, |remote| remote.adopt(base, real)).map(|()| true)
}

/// Declares scripts as run in production, where it is elsewhere; whether it is.
pub fn declare(app: &App, config: &Config, scripts: &[Declared]) -> Result<bool, Failure> {
    let Some(far) = far(app, config)? else { return Ok(false) };
    with_link(app, config, far, |remote| remote.declare(scripts)).map(|()| true)
}

/// Does `work` with the one connection of this command, which is made where there is none yet.
fn with_link<T>(
    app: &App,
    config: &Config,
    far: Far,
    work: impl FnOnce(&mut Remote) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut link = linked(app);
    let remote = match link.as_mut() {
        Some(remote) => remote,
        None => link.insert(Remote::open(&config.file.project, far)?),
    };
    work(remote)
}

fn linked(app: &App) -> MutexGuard<'_, Option<Remote>> {
    // A thread that died with it left at worst a connection that is gone.
    app.link.lock().unwrap_or_else(PoisonError::into_inner)
}
