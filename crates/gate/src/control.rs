//! The control socket, and a blocking client for it.
//!
//! The gate listens on a unix stream socket (mode 0600). A client writes one JSON object a line
//! and reads one JSON object a line back, any number of times:
//!
//! ```text
//! {"do":"status"}                            -> {"status":{...}}          see [`Status`]
//! {"do":"set","goal":{...}}                  -> {"status":{...}}          see [`Goal`]
//! {"do":"pass","minutes":30}                 -> {"pass":{...}}            see [`Pass`]
//! {"do":"bins","from":0,"to":1700000000000}  -> {"bins":[...]}            see [`Bin`]
//! {"do":"hours"}                             -> {"hours":[...]}           see [`HourOfWeek`]
//! {"do":"clear_alarm"}                       -> {"status":{...}}
//! {"do":"metrics"}                           -> {"metrics":"..."}         Prometheus' text format
//! {"do":"reload"}                            -> {"status":{...}}          log file, certificate
//! {"do":"upgrade"}                           -> {"upgraded":{"pid":4711}} a new program has the door
//! anything refused                           -> {"refused":{"why":"stale",...}}   see [`Refused`]
//! anything that failed                       -> {"failed":"text"}
//! ```
//!
//! `set` is answered after the goal is on disk and in force. A goal that was answered survives
//! `kill -9`; one that was not may or may not be in force, and can be sent again unchanged.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use entracte_model::UnixMs;
use entracte_model::gate::{Goal, Phase, Refused};
use serde::{Deserialize, Serialize};

pub use crate::bins::{Bin, HourOfWeek, LATENCY_BUCKETS};

/// How long the client waits for the gate, in milliseconds.
const ANSWER_MS: u64 = 15_000;
/// How long it waits for an upgrade: longer than the gate waits for its successor.
const UPGRADE_MS: u64 = 120_000;
/// The longest answer that is read, in bytes: a day of bins.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is asked of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Ask {
    /// The [`Status`] now.
    Status,
    /// A new goal.
    Set {
        /// The goal.
        goal: Box<Goal>,
    },
    /// A tester's pass.
    Pass {
        /// How long it is valid.
        minutes: u32,
    },
    /// Measurements between two moments.
    Bins {
        /// The first moment.
        from: UnixMs,
        /// The first moment that is no longer wanted.
        to: UnixMs,
    },
    /// Hours, for finding the quiet one.
    Hours,
    /// The operator has seen the alarm.
    ClearAlarm,
    /// Counts and gauges.
    Metrics,
    /// The access log was moved away, or the certificate renewed.
    Reload,
    /// Start the program anew and let it take over.
    Upgrade,
    /// What a successor asks. The answer carries sockets, so only a gate can use it.
    HandOver,
}

/// What the gate answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `status`, `set` and `clear_alarm`.
    Status(Box<Status>),
    /// To `pass`.
    Pass(Pass),
    /// To `bins`.
    Bins(Vec<Bin>),
    /// To `hours`.
    Hours(Vec<HourOfWeek>),
    /// To `metrics`: Prometheus' text format.
    Metrics(String),
    /// To `upgrade`.
    Upgraded {
        /// The process that has the door now.
        pid: u32,
    },
    /// A goal that was not accepted.
    Refused(Refused),
    /// Anything else that went wrong.
    Failed(String),
}

/// The gate at one moment. The phase and the counts are read under one lock: `closed` with
/// `in_flight` 0 means that no player's request is in the game, nor will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
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
    /// Players' requests that the game has and has not finished, tunnels included.
    pub in_flight: u64,
    /// Of these, tunnels (WebSockets).
    pub tunnels: u64,
    /// Testers' requests in the game. Not part of `in_flight`.
    pub testers_in_flight: u64,
    /// Distinct known sessions seen in the last `sessions_in_ms` (5 minutes).
    pub sessions_in: u64,
    /// Distinct known sessions seen in the last `player_left_ms` (60 s), or with a request in the
    /// game now. 0 while draining: everybody has left.
    pub players_left: u64,
    /// Requests parked now.
    pub parked: u64,
    /// Newcomers in the waiting room.
    pub waiting: u64,
    /// Newcomers let in since the reopening began.
    pub admitted: u64,
    /// The rate at which newcomers are let in, a second. 0 unless reopening.
    pub admission_per_s: f64,
    /// Requests of players that came in, a second, over the last full bin of 10 s.
    pub requests_per_s: f64,
    /// The game accepts a connection.
    pub upstream_ok: bool,
    /// How long the promised end (p90) is past, in milliseconds; 0 while it is not.
    pub overdue_ms: u64,
    /// What an operator has to look at.
    pub alarm: Option<String>,
    /// The gate's process.
    pub pid: u32,
    /// Where players connect.
    pub listen: SocketAddr,
}

/// A tester's pass, in two forms.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// For machines: name and value of a header.
    pub header: (String, String),
    /// For browsers: a token that works once, at `/_entracte/pass#<token>`.
    pub url_token: String,
    /// Until when the pass is valid.
    pub expires: UnixMs,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pass(until {})", self.expires.0)
    }
}

/// Why the gate could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers at the socket.
    #[error("no gate answers at {path}; start it with `entracte up`")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke. A goal that was sent may be in force: ask for the status.
    #[error("the gate at {path} did not finish its answer")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is none that this version knows.
    #[error(
        "the gate at {path} gave an answer that this version does not know; are both of one version?"
    )]
    Unknown {
        /// The socket.
        path: PathBuf,
    },
    /// The goal was not accepted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The gate tried and failed.
    #[error("the gate failed: {0}")]
    Failed(String),
}

/// What the client's calls give.
pub type Result<T> = std::result::Result<T, ControlError>;

/// A blocking client. Each call makes its own connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the gate whose control socket is `socket`. Connects only when asked something.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The gate now.
    pub fn status(&self) -> Result<Status> {
        self.status_from(&Ask::Status)
    }

    /// Gives a goal. Returns when it is on disk and in force.
    pub fn set(&self, goal: &Goal) -> Result<Status> {
        self.status_from(&Ask::Set { goal: Box::new(goal.clone()) })
    }

    /// The generation that the next goal needs.
    pub fn next_generation(&self) -> Result<u64> {
        Ok(self.status()?.generation + 1)
    }

    /// A tester's pass for `minutes` (1 to 1440).
    pub fn pass(&self, minutes: u32) -> Result<Pass> {
        match self.ask(&Ask::Pass { minutes })? {
            Answer::Pass(pass) => Ok(pass),
            other => Err(self.unexpected(other)),
        }
    }

    /// The bins that begin in `from..to`, oldest first, the unfinished one left out.
    pub fn bins(&self, from: UnixMs, to: UnixMs) -> Result<Vec<Bin>> {
        match self.ask(&Ask::Bins { from, to })? {
            Answer::Bins(bins) => Ok(bins),
            other => Err(self.unexpected(other)),
        }
    }

    /// The last eight weeks by the hour, oldest first, the present hour last.
    pub fn hours(&self) -> Result<Vec<HourOfWeek>> {
        match self.ask(&Ask::Hours)? {
            Answer::Hours(hours) => Ok(hours),
            other => Err(self.unexpected(other)),
        }
    }

    /// Takes the alarm off the status.
    pub fn clear_alarm(&self) -> Result<Status> {
        self.status_from(&Ask::ClearAlarm)
    }

    /// Counts and gauges in Prometheus' text format.
    pub fn metrics(&self) -> Result<String> {
        match self.ask(&Ask::Metrics)? {
            Answer::Metrics(text) => Ok(text),
            other => Err(self.unexpected(other)),
        }
    }

    /// Begins a new access log, and takes a renewed certificate into use.
    pub fn reload(&self) -> Result<Status> {
        self.status_from(&Ask::Reload)
    }

    /// Lets the program's present file take over. Returns its process number when it has the
    /// door; where that fails, the old one goes on.
    pub fn upgrade(&self) -> Result<u32> {
        match self.ask_within(&Ask::Upgrade, UPGRADE_MS)? {
            Answer::Upgraded { pid } => Ok(pid),
            other => Err(self.unexpected(other)),
        }
    }

    fn status_from(&self, ask: &Ask) -> Result<Status> {
        match self.ask(ask)? {
            Answer::Status(status) => Ok(*status),
            other => Err(self.unexpected(other)),
        }
    }

    fn unexpected(&self, answer: Answer) -> ControlError {
        match answer {
            Answer::Refused(refused) => ControlError::Refused(refused),
            Answer::Failed(text) => ControlError::Failed(text),
            Answer::Status(_)
            | Answer::Pass(_)
            | Answer::Bins(_)
            | Answer::Hours(_)
            | Answer::Metrics(_)
            | Answer::Upgraded { .. } => ControlError::Unknown { path: self.socket.clone() },
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Answer> {
        self.ask_within(ask, ANSWER_MS)
    }

    fn ask_within(&self, ask: &Ask, limit_ms: u64) -> Result<Answer> {
        let stream = UnixStream::connect(&self.socket)
            .map_err(|source| ControlError::NotRunning { path: self.socket.clone(), source })?;
        let line = self
            .talk(stream, ask, limit_ms)
            .map_err(|source| ControlError::Broken { path: self.socket.clone(), source })?;
        serde_json::from_str(&line).map_err(|_| ControlError::Unknown { path: self.socket.clone() })
    }

    fn talk(&self, mut stream: UnixStream, ask: &Ask, limit_ms: u64) -> io::Result<String> {
        let patience = Some(Duration::from_millis(limit_ms));
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        let mut text = serde_json::to_string(ask)?;
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_the_documented_one() {
        let text = |ask: &Ask| serde_json::to_string(ask).unwrap();
        assert_eq!(text(&Ask::Status), r#"{"do":"status"}"#);
        assert_eq!(text(&Ask::Pass { minutes: 30 }), r#"{"do":"pass","minutes":30}"#);
        assert_eq!(
            text(&Ask::Bins { from: UnixMs(0), to: UnixMs(9) }),
            r#"{"do":"bins","from":0,"to":9}"#
        );
        let refused = Answer::Refused(Refused::Stale { held: 7, asked: 6 });
        assert_eq!(
            serde_json::to_string(&refused).unwrap(),
            r#"{"refused":{"why":"stale","held":7,"asked":6}}"#
        );
    }

    #[test]
    fn a_missing_gate_is_told_from_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        assert!(matches!(Client::new(&path).status(), Err(ControlError::NotRunning { .. })));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(matches!(Client::new(&path).status(), Err(ControlError::Broken { .. })));
        hangs_up.join().unwrap();
    }
}
