//! Our own gate, asked through its control socket.

use std::path::{Path, PathBuf};

use entracte_model::UnixMs;
use entracte_model::gate::{Goal, State};

use super::{DriverError, GateDriver, Kind, Standing};
use crate::bins::{Bin, HourOfWeek};
use crate::control::{Client, Status};

/// Our own gate.
#[derive(Debug, Clone)]
pub struct Own {
    client: Client,
    state_dir: PathBuf,
}

impl Own {
    /// The gate with this control socket, which keeps its state in `state_dir`.
    pub fn new(socket: &Path, state_dir: &Path) -> Self {
        Self { client: Client::new(socket), state_dir: state_dir.to_owned() }
    }
}

impl From<Status> for Standing {
    fn from(status: Status) -> Self {
        Self {
            phase: status.phase,
            generation: status.generation,
            goal: status.goal,
            since: status.since,
            server_time: status.server_time,
            in_flight: Some(status.in_flight),
            grace_ms: 0,
            players_left: Some(status.players_left),
            upstream_ok: status.upstream_ok,
            at: status.listen.to_string(),
        }
    }
}

impl GateDriver for Own {
    fn kind(&self) -> Kind {
        Kind::Entracte
    }

    fn status(&self) -> Result<Standing, DriverError> {
        Ok(self.client.status()?.into())
    }

    fn set(&self, goal: &Goal) -> Result<Standing, DriverError> {
        Ok(self.client.set(goal)?.into())
    }

    fn pass(&self, minutes: u32) -> Result<((String, String), String), DriverError> {
        let pass = self.client.pass(minutes)?;
        Ok((pass.header, pass.url_token))
    }

    fn bins(&self, from: UnixMs, to: UnixMs) -> Result<Vec<Bin>, DriverError> {
        Ok(self.client.bins(from, to)?)
    }

    fn hours(&self) -> Result<Vec<HourOfWeek>, DriverError> {
        Ok(self.client.hours()?)
    }

    fn last_known(&self) -> Option<State> {
        crate::last_state(&self.state_dir)
    }
}
