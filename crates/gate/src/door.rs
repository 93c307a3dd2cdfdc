//! The sockets of a gate, and the locks that say that they are its own: made, or handed over.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::TcpListener;

use crate::config::GateConfig;
use crate::control_server::ControlSocket;
use crate::error::GateError;
use crate::files::Lock;
use crate::succession::Heirlooms;

/// Everything that a second gate must not have at the same time.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) control: ControlSocket,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) state_lock: Lock,
}

impl Door {
    /// Takes the locks, then makes the sockets.
    pub(crate) async fn make(config: &GateConfig) -> Result<Self, GateError> {
        let state_lock = Lock::take(&config.state_dir.join("owner.lock"))?;
        let control = ControlSocket::bind(&config.control_socket)?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { listener: bind(config.listen).await?, control, metrics, state_lock })
    }

    /// From the gate before this one. The addresses cannot change: its clients are on them.
    pub(crate) fn inherited(config: &GateConfig, heirlooms: Heirlooms) -> Result<Self, GateError> {
        let broken = |source| GateError::Listen { address: config.listen, source };
        let metrics = match (heirlooms.metrics, config.metrics_listen) {
            (Some(fd), Some(wanted)) => Some(listener(fd, wanted, "metrics_listen")?),
            (None, None) => None,
            (found, _) => {
                let found = if found.is_some() { "one" } else { "none" };
                return Err(changed("metrics_listen", format!("the running gate has {found}")));
            }
        };
        Ok(Self {
            listener: listener(heirlooms.listener, config.listen, "listen")?,
            control: ControlSocket::inherited(heirlooms.control, heirlooms.control_lock)
                .map_err(broken)?,
            metrics,
            state_lock: Lock::inherited(heirlooms.state_lock),
        })
    }

    pub(crate) fn address(&self, config: &GateConfig) -> Result<SocketAddr, GateError> {
        self.listener
            .local_addr()
            .map_err(|source| GateError::Listen { address: config.listen, source })
    }

    /// The same once more, for a successor.
    pub(crate) fn share(&self, config: &GateConfig) -> Result<Heirlooms, GateError> {
        let share = || {
            let (control, control_lock) = self.control.share()?;
            let metrics = self.metrics.as_ref().map(|at| at.as_fd().try_clone_to_owned());
            Ok(Heirlooms {
                listener: self.listener.as_fd().try_clone_to_owned()?,
                control,
                state_lock: self.state_lock.share()?,
                control_lock,
                metrics: metrics.transpose()?,
            })
        };
        share().map_err(|source| GateError::Listen { address: config.listen, source })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, GateError> {
    TcpListener::bind(address).await.map_err(|source| GateError::Listen { address, source })
}

fn listener(fd: OwnedFd, wanted: SocketAddr, key: &'static str) -> Result<TcpListener, GateError> {
    let broken = |source| GateError::Listen { address: wanted, source };
    let listener = std::net::TcpListener::from(fd);
    let found = listener.local_addr().map_err(broken)?;
    if found.ip() != wanted.ip() || (wanted.port() != 0 && found.port() != wanted.port()) {
        return Err(changed(key, format!("{wanted}, while the running gate has {found}")));
    }
    listener.set_nonblocking(true).map_err(broken)?;
    TcpListener::from_std(listener).map_err(broken)
}

fn changed(key: &'static str, found: String) -> GateError {
    GateError::Config {
        key,
        expected: "in an upgrade, the same as before (restart the gate to change it)",
        found,
    }
}
