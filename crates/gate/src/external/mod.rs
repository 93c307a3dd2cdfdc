//! The gate of a team: our own, or the web server that the team keeps in front of its game.
//!
//! [`GateDriver`] is what a release asks of either. Our gate is asked through its control socket
//! ([`crate::control::Client`]); nginx, Caddy, HAProxy and Apache by a [`Front`]: a folder of files
//! that the team's own configuration includes once, and that says at each request whether the game is
//! open. What a server cannot do is said by its [`Capabilities`], never imitated.

use entracte_model::UnixMs;
use entracte_model::gate::{Goal, Phase, State};
use serde::{Deserialize, Serialize};

mod apache;
mod caddy;
mod commands;
mod error;
mod folder;
mod front;
mod haproxy;
mod http;
mod nginx;
mod own;
mod recipe;
mod workers;

pub use error::DriverError;
pub use front::{Front, Probe, Settings};
pub use own::Own;
pub use recipe::Snippet;

use crate::bins::{Bin, HourOfWeek};

/// What stands in front of the game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Our own gate.
    #[default]
    Entracte,
    /// nginx.
    Nginx,
    /// Caddy.
    Caddy,
    /// HAProxy.
    Haproxy,
    /// Apache.
    Apache,
}

impl Kind {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Entracte => "entracte",
            Kind::Nginx => "nginx",
            Kind::Caddy => "caddy",
            Kind::Haproxy => "haproxy",
            Kind::Apache => "apache",
        }
    }

    /// What a gate of this kind can do.
    pub fn capabilities(self) -> Capabilities {
        let front = Capabilities {
            can_hold: false,
            can_pace: false,
            counts_players: false,
            measures: false,
            moves_by_itself: false,
            flips_without_reload: true,
            hides_pass: true,
            reloads_at_closing: false,
            cuts_websockets: false,
            tells_time_without_scripts: true,
        };
        match self {
            Kind::Entracte => Capabilities {
                can_hold: true,
                can_pace: true,
                counts_players: true,
                measures: true,
                moves_by_itself: true,
                cuts_websockets: true,
                ..front
            },
            Kind::Nginx => Capabilities { hides_pass: false, reloads_at_closing: true, ..front },
            Kind::Apache => Capabilities { reloads_at_closing: true, ..front },
            Kind::Caddy => front,
            Kind::Haproxy => Capabilities { tells_time_without_scripts: false, ..front },
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Entracte => "the gate",
            Kind::Nginx => "nginx",
            Kind::Caddy => "Caddy",
            Kind::Haproxy => "HAProxy",
            Kind::Apache => "Apache",
        })
    }
}

/// What a gate can do. All of them show the page, close the login, and let testers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Lets requests wait instead of showing the page.
    pub can_hold: bool,
    /// Lets players in at a growing rate when it reopens.
    pub can_pace: bool,
    /// Knows how many players are in.
    pub counts_players: bool,
    /// Keeps counts of requests, errors and times, for the watch and the quiet hour.
    pub measures: bool,
    /// Closes the login, and the game, at the announced time even where nobody is there to ask.
    pub moves_by_itself: bool,
    /// The page appears and goes without a reload of the server.
    pub flips_without_reload: bool,
    /// Takes the tester's pass off before the game sees it.
    pub hides_pass: bool,
    /// Is reloaded once at the closing: its old workers end when their last request has ended,
    /// which is how it tells that nobody is in the game.
    pub reloads_at_closing: bool,
    /// Ends open WebSockets when it closes.
    pub cuts_websockets: bool,
    /// Its page shows when the game is back even in a browser without scripts.
    pub tells_time_without_scripts: bool,
}

impl Capabilities {
    /// What it cannot do and what happens instead, for people.
    pub fn shortcomings(&self) -> Vec<&'static str> {
        let all = [
            (self.can_hold, "it cannot hold requests: a release without SQL shows the page, too"),
            (self.can_pace, "it has no waiting room: everybody is let in at once"),
            (
                self.counts_players,
                "it does not count players: the login stays closed for the whole of pace.drain",
            ),
            (
                self.measures,
                "it keeps no counts: the watch has probes only, and there is no quietest hour",
            ),
            (
                self.moves_by_itself,
                "it does not move by itself: the login closes when the release asks, and where the \
                 release dies it stays as it is",
            ),
            (
                self.cuts_websockets,
                "it does not end WebSockets: they count as requests in the game until they end",
            ),
            (
                self.hides_pass,
                "the game sees the tester's pass unless your configuration removes it",
            ),
            (
                self.tells_time_without_scripts,
                "its page tells when the game is back only where scripts run",
            ),
        ];
        all.into_iter().filter(|(can, _)| !can).map(|(_, text)| text).collect()
    }
}

/// A gate at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The phase now.
    pub phase: Phase,
    /// The generation of the goal. The next goal needs a greater one.
    pub generation: u64,
    /// The last goal that was accepted.
    pub goal: Goal,
    /// Since when the phase lasts.
    pub since: UnixMs,
    /// The gate's clock.
    pub server_time: UnixMs,
    /// Players' requests that the game has and has not finished. Nothing where the gate cannot tell;
    /// then whoever needs to know waits for `grace_ms`.
    pub in_flight: Option<u64>,
    /// How long to wait where `in_flight` is not known, in milliseconds.
    pub grace_ms: u64,
    /// Players who have not left yet, where that is counted.
    pub players_left: Option<u64>,
    /// The game accepts a connection.
    pub upstream_ok: bool,
    /// Where players connect.
    pub at: String,
}

/// What a release asks of whatever stands in front of the game.
///
/// A goal is on disk before it is in force, and in force when [`GateDriver::set`] returns. One with a
/// generation that is not newer is refused. `closed` with `in_flight` 0 means that no player's
/// request is in the game, nor will be.
pub trait GateDriver {
    /// What it is.
    fn kind(&self) -> Kind;

    /// What it can do.
    fn capabilities(&self) -> Capabilities {
        self.kind().capabilities()
    }

    /// The gate now.
    fn status(&self) -> Result<Standing, DriverError>;

    /// Gives a goal. Returns when it is on disk and in force.
    fn set(&self, goal: &Goal) -> Result<Standing, DriverError>;

    /// The generation that the next goal needs.
    fn next_generation(&self) -> Result<u64, DriverError> {
        Ok(self.status()?.generation + 1)
    }

    /// A tester's pass as a header, and as what stands behind `/_entracte/pass#`. Good for `minutes`
    /// where passes have an end of their own, else until the next closing.
    fn pass(&self, minutes: u32) -> Result<((String, String), String), DriverError>;

    /// What players met between two moments; nothing where that is not measured.
    fn bins(&self, _from: UnixMs, _to: UnixMs) -> Result<Vec<Bin>, DriverError> {
        Ok(vec![])
    }

    /// The last eight weeks by the hour; nothing where that is not measured.
    fn hours(&self) -> Result<Vec<HourOfWeek>, DriverError> {
        Ok(vec![])
    }

    /// What it last wrote down, for when it does not answer itself: it comes back in this state.
    fn last_known(&self) -> Option<State>;
}
