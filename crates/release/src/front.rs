//! The gate of a target: our own, or the web server that the team keeps.

use std::time::Duration;

use entracte_gate::external::{Capabilities, Front, GateDriver, Kind, Own, Probe, Settings};

use crate::fault::chain;
use crate::target::Target;

/// How long the server may take for one answer of its own, in milliseconds.
const PROBE_MS: u64 = 10_000;
/// The most that is read of such an answer, in bytes.
const PROBE_BYTES_MAX: u64 = 1 << 20;

/// What a target's gate is asked through.
pub fn driver(target: &Target) -> Box<dyn GateDriver> {
    match &target.front {
        Some(settings) => Box::new(server(settings)),
        None => Box::new(Own::new(&target.gate_socket, &target.gate_state)),
    }
}

/// The web server that a team keeps.
pub fn server(settings: &Settings) -> Front {
    Front::new(settings.clone(), probe(settings.url.clone()))
}

/// What a target's gate is.
pub fn kind(target: &Target) -> Kind {
    target.front.as_ref().map_or(Kind::Entracte, |settings| settings.kind)
}

/// What a target's gate can do.
pub fn capabilities(target: &Target) -> Capabilities {
    kind(target).capabilities()
}

/// Asks the server as a player's browser would, without following it elsewhere.
fn probe(url: String) -> Probe {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_millis(PROBE_MS)))
        .http_status_as_error(false)
        .max_redirects(0)
        // A connection that is kept would keep an old worker of the server.
        .max_idle_connections(0)
        .build()
        .into();
    Box::new(move |path| {
        let url = format!("{}{path}", url.trim_end_matches('/'));
        let mut answer = agent.get(&url).call().map_err(|error| chain(&error))?;
        let status = answer.status().as_u16();
        let body = answer
            .body_mut()
            .with_config()
            .limit(PROBE_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| chain(&error))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    })
}
