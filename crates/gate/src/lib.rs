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
mod crowd;
mod door;
mod error;
pub mod external;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod in_flight;
mod inject;
mod limits;
mod metrics;
mod own;
mod pages;
mod park;
mod pass_tokens;
mod pool;
mod proxy;
mod server;
mod sessions;
mod state_file;
mod strict;
mod succession;
mod timer;
mod tls;
mod tokens;
mod tunnel;
mod waiting_room;
mod who;

#[doc(hidden)]
pub use crate::core::WALL_CLOCK_OFF_MS;
pub use bins::{Bin, HourOfWeek};
pub use config::{GateConfig, Upstream};
pub use error::GateError;
pub use limits::Limits;
pub use state_file::last_state;
pub use succession::Successor;

use crate::access_log::{AccessLog, Rotation};
use crate::bins_file::BinFiles;
use crate::config::Parsed;
use crate::core::{Core, Start};
use crate::door::Door;
use crate::sessions::{SessionFile, Sessions};
use crate::state_file::StateFile;
use crate::tokens::Keys;

/// What whoever runs the gate's process can ask of it, usually by signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The access log was moved away, or the certificate renewed (SIGHUP).
    Reload,
    /// Let the program's present file take over (SIGUSR2).
    Upgrade,
}

/// How this gate comes after another one, and what comes after it.
#[derive(Debug, Default)]
pub struct Place {
    /// Take over from the gate that runs with the same configuration.
    pub take_over: bool,
    /// What takes over from this gate. Without it, an upgrade is refused.
    pub successor: Option<Successor>,
    /// Orders. Without it, they come through the control socket only.
    pub orders: Option<tokio::sync::mpsc::Receiver<Order>>,
}

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
    run_at(config, Place::default(), ready, shutdown).await
}

/// [`run`], as one of a line of gates that follow each other.
///
/// # Errors
/// As [`run`]; and where the gate before this one does not hand over.
pub async fn run_at(
    config: GateConfig,
    place: Place,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future,
) -> Result<(), GateError> {
    let parsed = Parsed::of(&config)?;
    core::raise_files_limit();
    files::private_dir(&config.state_dir)?;
    // Before anything is taken over: a certificate that cannot be read must not cost the old gate.
    let tls = config.tls()?;
    let (door, taken) = match place.take_over {
        true => {
            let taken = succession::take(&config.control_socket)?;
            let door = Door::inherited(&config, taken.heirlooms)?;
            (door, Some((taken.handed, taken.line)))
        }
        false => (Door::make(&config).await?, None),
    };
    let bin_files = BinFiles::new(&config.state_dir, config.limits.bins_kept_days)?;
    let session_file = SessionFile::new(&config.state_dir);
    let mut start = start(&config, &bin_files, &session_file)?;
    start.tls = tls;
    start.successor = place.successor;
    let line = taken.map(|(handed, line)| {
        start.loaded.alarm = start.loaded.alarm.take().or(handed.alarm);
        start.bin = Some(handed.bin);
        start.elder = Some(handed.elder);
        line
    });
    let core = Core::new(config, parsed, start);
    serve(core, door, line, place.orders, (bin_files, session_file), ready, shutdown).await
}

async fn serve(
    core: Arc<Core>,
    door: Door,
    line: Option<std::os::unix::net::UnixStream>,
    orders: Option<tokio::sync::mpsc::Receiver<Order>>,
    files: (BinFiles, SessionFile),
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future,
) -> Result<(), GateError> {
    let address = door.address(&core.config)?;
    // Set once, here.
    let _ = core.listen.set(address);
    core.keep_heirlooms(door.share(&core.config)?);
    let Door { listener, control, metrics, state_lock } = door;
    let mut helpers = vec![
        tokio::spawn(control.serve(Arc::clone(&core), files.clone())),
        tokio::spawn(background::by_time(Arc::clone(&core))),
        tokio::spawn(background::by_tick(Arc::clone(&core), files.0.clone(), files.1.clone())),
    ];
    helpers.extend(metrics.map(|at| tokio::spawn(metrics::serve(Arc::clone(&core), at))));
    helpers.extend(orders.map(|orders| tokio::spawn(obey(Arc::clone(&core), orders))));
    let serving = server::serve(Arc::clone(&core), listener);
    ready(address);
    if let Some(line) = line {
        let broken = |source| GateError::Listen { address, source };
        line.set_nonblocking(true).map_err(broken)?;
        let line = tokio::net::UnixStream::from_std(line).map_err(broken)?;
        tokio::spawn(succession::lead(Arc::clone(&core), line));
    }
    let stopping = async {
        tokio::select! {
            _ = shutdown => {}
            // Nobody is left in a gate that has handed over.
            _ = async { core.stop.subscribe().wait_for(|stop| *stop).await.is_ok() } => {}
        }
        core.stop.send_replace(true);
    };
    let retiring = async {
        let mut retired = core.retired.subscribe();
        let mut stop = core.stop.subscribe();
        tokio::select! {
            _ = retired.wait_for(|retired| *retired) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        for helper in &helpers {
            helper.abort();
        }
        // The successor holds the same lock.
        drop(state_lock);
    };
    tokio::join!(serving, stopping, retiring);
    for helper in &helpers {
        helper.abort();
    }
    if *core.retired.borrow() { Ok(()) } else { background::write_last(&core, &files.0, &files.1) }
}

async fn obey(core: Arc<Core>, mut orders: tokio::sync::mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Reload => core.reload(),
            Order::Upgrade => {
                if let Err(why) = succession::upgrade(&core).await {
                    core.alarm(Some(format!("no upgrade: {why}")));
                }
            }
        }
    }
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
    let rotation = Rotation {
        bytes_max: limits.access_log_bytes_max,
        files_kept: limits.access_log_files_kept,
    };
    let log = config
        .access_log
        .as_deref()
        .map(|path| AccessLog::open(path, limits.access_log_lines_max, rotation));
    Ok(Start {
        loaded: StateFile::new(&config.state_dir).load(now)?,
        keys: Keys::load_or_make(&config.state_dir)?,
        log: log.transpose()?,
        sessions,
        bins: bin_files.load(now, limits.bins_memory_max),
        hours: bin_files.load_hours(limits.hours_kept),
        tls: None,
        successor: None,
        bin: None,
        elder: None,
    })
}
