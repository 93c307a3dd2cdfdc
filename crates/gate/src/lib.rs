//! The gate: a reverse proxy in front of a game, with a door that closes politely.
//!
//! It depends on nothing else being alive: killed and started again, it comes back in the state
//! that it had. What it does with a request in each state is decided by
//! [`entracte_model::gate::decide`]; this crate carries it out. It is steered through a unix
//! socket, see [`control`].
//!
//! What must not exist here: an effect before its state is on disk; a request in the game that is
//! not counted; a wait, queue or buffer without a bound in [`Limits`]; a request sent to the game
//! twice, unless nothing of it was sent or it changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

mod access_log;
mod background;
mod bins;
mod bins_file;
mod body;
mod config;
mod conn;
pub mod control;
mod control_server;
mod core;
mod error;
mod files;
mod headers;
mod in_flight;
mod inject;
mod limits;
mod own;
mod pages;
mod park;
mod pass_tokens;
mod pool;
mod proxy;
mod server;
mod sessions;
mod state_file;
mod tokens;
mod tunnel;
mod waiting_room;
mod who;

pub use bins::{Bin, HourOfWeek};
pub use config::{GateConfig, Upstream};
pub use error::GateError;
pub use limits::Limits;
pub use state_file::last_state;

use crate::access_log::AccessLog;
use crate::bins_file::BinFiles;
use crate::config::Parsed;
use crate::control_server::ControlSocket;
use crate::core::{Core, Start};
use crate::files::Lock;
use crate::sessions::{SessionFile, Sessions};
use crate::state_file::StateFile;
use crate::tokens::Keys;

/// Runs a gate until `shutdown` is done, then lets what goes on finish.
///
/// `ready` is called once players can connect, with the address that they can use. Needs a tokio
/// runtime with I/O and time.
///
/// # Errors
/// Where the gate cannot start: a configuration that cannot be used, an address or a state folder
/// that is taken. Once it runs, trouble becomes an alarm in the status instead.
pub async fn run(
    config: GateConfig,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future,
) -> Result<(), GateError> {
    let parsed = Parsed::of(&config)?;
    files::private_dir(&config.state_dir)?;
    let _state_is_ours = Lock::take(&config.state_dir.join("owner.lock"))?;
    let control = ControlSocket::bind(&config.control_socket)?;
    let bin_files = BinFiles::new(&config.state_dir, config.limits.bins_kept_days)?;
    let session_file = SessionFile::new(&config.state_dir);
    let start = start(&config, &bin_files, &session_file)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| GateError::Listen { address: config.listen, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| GateError::Listen { address: config.listen, source })?;
    let core = Core::new(config, parsed, start);
    // Set once, here.
    let _ = core.listen.set(address);

    let helpers = [
        tokio::spawn(control.serve(Arc::clone(&core))),
        tokio::spawn(background::by_time(Arc::clone(&core))),
        tokio::spawn(background::by_tick(
            Arc::clone(&core),
            bin_files.clone(),
            session_file.clone(),
        )),
    ];
    let serving = server::serve(Arc::clone(&core), listener);
    ready(address);
    let stopping = async {
        shutdown.await;
        core.stop.send_replace(true);
    };
    tokio::join!(serving, stopping);
    for helper in &helpers {
        helper.abort();
    }
    background::write_last(&core, &bin_files, &session_file)
}

fn start(
    config: &GateConfig,
    bin_files: &BinFiles,
    session_file: &SessionFile,
) -> Result<Start, GateError> {
    let limits = &config.limits;
    let now = core::now();
    let mut sessions = Sessions::new(limits.sessions_max, limits.session_kept_ms);
    sessions.read(&session_file.load(), now);
    let log =
        config.access_log.as_deref().map(|path| AccessLog::open(path, limits.access_log_lines_max));
    Ok(Start {
        loaded: StateFile::new(&config.state_dir).load(now)?,
        keys: Keys::load_or_make(&config.state_dir)?,
        log: log.transpose()?,
        sessions,
        bins: bin_files.load(now, limits.bins_memory_max),
        hours: bin_files.load_hours(limits.hours_kept),
    })
}
