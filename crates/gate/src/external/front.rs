//! The web server that a team keeps in front of its game, driven by a folder that it reads.

use std::fs;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entracte_model::gate::{self, Goal, LoginRule, Phase, STATE_FORMAT, State};
use serde::{Deserialize, Serialize};

use super::recipe::{self, Snippet};
use super::workers::{self, Worker};
use super::{DriverError, GateDriver, Kind, Standing, caddy, commands, folder, haproxy, nginx};
use crate::config::Upstream;
use crate::core::now;
use crate::error::GateError;
use crate::files::{self, Lock};
use crate::tokens::random;

/// How long another process may be at the same front, in milliseconds: as long as a reload takes.
const LOCK_MS: u64 = 90_000;
/// How long the server may take to do what it was told, in milliseconds.
const IN_FORCE_MS: u64 = 15_000;
/// How long a reload may take until new workers are there, in milliseconds.
const NEW_WORKERS_MS: u64 = 30_000;
/// How often is looked, in milliseconds.
const POLL_MS: u64 = 10;
/// The time between two looks that must both find nobody in the game, in milliseconds: a request
/// passes the door a moment before the server counts it.
const LOOK_TWICE_MS: u64 = 20;
/// How long the game may take to accept a connection, in milliseconds.
const CONNECT_MS: u64 = 500;
/// The header of a tester's pass.
const PASS_HEADER: &str = "x-entracte-pass";

/// A front, as its configuration describes it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which server.
    pub kind: Kind,
    /// The folder that it reads.
    pub folder: PathBuf,
    /// Its address as this machine reaches it.
    pub url: String,
    /// Where the game answers behind it.
    pub upstream: Upstream,
    /// Which requests are logins.
    pub login: Vec<LoginRule>,
    /// The game's session cookies.
    pub session_cookies: Vec<String>,
    /// Health checks, answered even while the game is closed.
    pub health_paths: Vec<String>,
    /// Languages of the pages.
    pub languages: Vec<String>,
    /// The game's name, as players know it.
    pub game_name: String,
    /// The command that tests the server's configuration.
    pub check: String,
    /// The command that reloads it.
    pub reload: String,
    /// nginx, Apache: the file with the number of its main process.
    pub pid_file: PathBuf,
    /// HAProxy, Caddy: the admin interface.
    pub admin: String,
    /// HAProxy, Caddy: the backends (upstreams) whose requests count.
    pub backends: Vec<String>,
    /// How long to wait where nobody can tell whether requests are in the game, in milliseconds.
    pub grace_ms: u64,
}

/// Asks the server for a path of its own as a player would; the status and the body of the answer.
pub type Probe = Box<dyn Fn(&str) -> Result<(u16, String), String> + Send + Sync>;

/// What is remembered beside the state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The tester's pass, new for each closing.
    secret: String,
    /// The generation that is in force; less than the state's after a crash in between.
    applied: u64,
    /// Workers that were replaced by the reload at the closing; nothing where they cannot be seen.
    replaced: Option<Vec<Worker>>,
}

/// The driver of a front.
pub struct Front {
    settings: Settings,
    probe: Probe,
}

impl Front {
    /// A front with `settings`, asked through `probe`.
    pub fn new(settings: Settings, probe: Probe) -> Self {
        Self { settings, probe }
    }

    /// What the team puts into its own configuration, once. Writes the files that it includes.
    pub fn snippets(&self) -> Result<Vec<Snippet>, DriverError> {
        let _one = self.lock()?;
        folder::make(&self.settings)?;
        let state = self.load()?;
        if self.record().secret.is_empty() {
            self.renew_secret()?;
        }
        for (name, text) in self.files(&state, &state) {
            folder::publish(&self.settings.folder.join(name), &text)?;
        }
        if !self.state_file().exists() {
            self.save(&state)?;
        }
        self.write(&state)?;
        Ok(recipe::snippets(&self.settings))
    }

    /// Whether the server runs with the present configuration and reads this folder: asked through it.
    pub fn included(&self) -> Result<(), DriverError> {
        self.expect("/_entracte/ready", &recipe::mark(&self.settings), 0, |status, body| {
            status == 200 && body.trim() == recipe::mark(&self.settings)
        })?;
        self.in_force(&self.load()?, 0)
    }

    /// One process at a time: the folder is one thing, and a reload takes a while.
    fn lock(&self) -> Result<Lock, DriverError> {
        folder::make(&self.settings)?;
        let path = self.settings.folder.join("lock");
        let until = Instant::now() + Duration::from_millis(LOCK_MS);
        loop {
            match Lock::take(&path) {
                Err(GateError::AlreadyRunning { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(POLL_MS));
                }
                taken => return Ok(taken?),
            }
        }
    }

    fn state_file(&self) -> PathBuf {
        self.settings.folder.join("state.json")
    }

    /// The state that was written. One that cannot be read is nobody's to guess: the server goes on
    /// with what the flags say, and a person is asked.
    fn load(&self) -> Result<State, DriverError> {
        let path = self.state_file();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.record().applied == 0 {
                    return Ok(State::initial(now()));
                }
                return Err(DriverError::State { path, problem: "it is gone".into() });
            }
            Err(error) => return Err(GateError::file("read", &path)(error).into()),
        };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.format == STATE_FORMAT => Ok(state),
            Ok(state) => {
                let problem = format!("format {} instead of {STATE_FORMAT}", state.format);
                Err(DriverError::State { path, problem })
            }
            Err(error) => Err(DriverError::State { path, problem: error.to_string() }),
        }
    }

    /// Writes the state. When this returns, the goal survives any crash; a crash inside leaves the
    /// previous one, which nobody was told has ended.
    fn save(&self, state: &State) -> Result<(), DriverError> {
        let text = serde_json::to_vec_pretty(state).expect("a state has only texts and numbers");
        Ok(files::replace(&self.state_file(), &text)?)
    }

    /// What is remembered beside the state. Lost, everything is applied once more, with a new pass.
    fn record(&self) -> Record {
        let bytes = fs::read(self.settings.folder.join("front.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn keep(&self, record: &Record) -> Result<(), DriverError> {
        let text = serde_json::to_vec_pretty(record).expect("a record has only texts and numbers");
        Ok(files::replace(&self.settings.folder.join("front.json"), &text)?)
    }

    fn renew_secret(&self) -> Result<Record, DriverError> {
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let record = Record { secret, ..self.record() };
        self.keep(&record)?;
        Ok(record)
    }

    /// The files that the server's configuration includes. Times only change in it when the game
    /// closes, or its promise changes.
    fn files(&self, before: &State, state: &State) -> Vec<(&'static str, String)> {
        let mut all = recipe::files(&self.settings);
        if self.settings.kind == Kind::Nginx {
            let promise = |state: &State| {
                (folder::door(state) == "closed", state.goal.reopens_p50, state.goal.reopens_p90)
            };
            let is_there = self.settings.folder.join(nginx::RETRY).exists();
            if !is_there || (folder::door(state) != "open" && promise(before) != promise(state)) {
                all.push((nginx::RETRY, nginx::retry(state, now())));
            }
        }
        all
    }

    /// Writes what the server includes, where it changed, and lets the server test it. What it does
    /// not take is put back as it was. True where something changed.
    fn configure(&self, before: &State, state: &State) -> Result<bool, DriverError> {
        let mut old = Vec::new();
        for (name, text) in self.files(before, state) {
            let path = self.settings.folder.join(name);
            let found = fs::read_to_string(&path).ok();
            if folder::publish(&path, &text)? {
                old.push((path, found));
            }
        }
        // HAProxy includes nothing: the file is for people.
        if self.settings.kind == Kind::Haproxy {
            return Ok(false);
        }
        let closes = self.is_reloaded_for(before, state);
        if !closes && old.is_empty() {
            return Ok(false);
        }
        if let Err(said) = commands::run(&self.settings.check, &self.settings.folder) {
            for (path, text) in old {
                match text {
                    Some(text) => folder::publish(&path, &text).map(drop)?,
                    None => fs::remove_file(&path).map_err(GateError::file("remove", &path))?,
                }
            }
            let command = self.settings.check.clone();
            return Err(DriverError::Test { kind: self.settings.kind, command, said });
        }
        Ok(!old.is_empty())
    }

    /// Whether the server is reloaded so that it can tell that nobody is in the game.
    fn is_reloaded_for(&self, before: &State, state: &State) -> bool {
        self.capabilities().reloads_at_closing
            && state.phase == Phase::Closed
            && (before.phase != Phase::Closed || self.record().applied < before.goal.generation)
    }

    /// Everything that the server reads at each request, flags last.
    fn write(&self, state: &State) -> Result<(), DriverError> {
        let (settings, now) = (&self.settings, now());
        let secret = self.record().secret;
        folder::write_pages(settings, state, now)?;
        if settings.kind == Kind::Haproxy {
            let values = folder::map_values(settings, state, &secret, now);
            folder::write_map(settings, &values)?;
            return Ok(());
        }
        folder::write_pass(settings, &secret)?;
        folder::write_retry(settings, state, now)?;
        Ok(folder::write_flags(settings, state)?)
    }

    /// Lets a state that is on disk be in force, and returns when it is.
    fn act(&self, state: &State, reload: bool) -> Result<(), DriverError> {
        self.write(state)?;
        if self.settings.kind == Kind::Haproxy {
            let secret = self.record().secret;
            let values = folder::map_values(&self.settings, state, &secret, now());
            haproxy::tell(&self.settings, &values)?;
        }
        if reload {
            self.reload()?;
        }
        self.in_force(state, IN_FORCE_MS)?;
        self.keep(&Record { applied: state.goal.generation, ..self.record() })
    }

    /// Reloads the server and waits until its new workers are there. Those that they replace are
    /// remembered: they end when their last request has ended.
    fn reload(&self) -> Result<(), DriverError> {
        let settings = &self.settings;
        let proves = self.capabilities().reloads_at_closing;
        let replaced = if proves { workers::of(&settings.pid_file) } else { None };
        let mut all: Option<Vec<Worker>> = replaced.clone();
        if let (Some(all), Some(earlier)) = (&mut all, self.record().replaced) {
            all.extend(earlier.into_iter().filter(Worker::runs));
        }
        // On disk before the reload: after a crash in between, whoever comes next still waits.
        self.keep(&Record { replaced: all, ..self.record() })?;
        let failed = |said: String| DriverError::Reload {
            kind: settings.kind,
            command: settings.reload.clone(),
            said,
        };
        commands::run(&settings.reload, &settings.folder).map_err(failed)?;
        let Some(replaced) = replaced else { return Ok(()) };
        let new = || {
            let present = workers::of(&settings.pid_file).unwrap_or_default();
            present.iter().any(|worker| !replaced.contains(worker))
        };
        match wait(NEW_WORKERS_MS, new) {
            true => Ok(()),
            false => Err(failed(format!(
                "brought no new workers in {} s; its error log says why",
                NEW_WORKERS_MS / 1_000
            ))),
        }
    }

    /// Asks through the server whether it does what the state says.
    fn in_force(&self, state: &State, patience_ms: u64) -> Result<(), DriverError> {
        let generation = state.goal.generation;
        let wanted = format!("the status with generation {generation}");
        self.expect("/_entracte/v1/status", &wanted, patience_ms, |status, body| {
            let found: Option<serde_json::Value> = serde_json::from_str(body).ok();
            status == 200 && found.is_some_and(|found| found["generation"] == generation)
        })?;
        match folder::door(state) {
            "closed" => {
                self.expect("/_entracte/door", "503", patience_ms, |status, _| status == 503)
            }
            "open" => self.expect("/_entracte/door", "200", patience_ms, |status, _| status == 200),
            // Whoever has no session cookie is turned away, where there are such.
            _ if self.settings.session_cookies.is_empty() => Ok(()),
            _ => self.expect("/_entracte/door", "503", patience_ms, |status, _| status == 503),
        }
    }

    fn expect(
        &self,
        path: &str,
        expected: &str,
        patience_ms: u64,
        is_so: impl Fn(u16, &str) -> bool,
    ) -> Result<(), DriverError> {
        let mut found = String::new();
        let so = wait(patience_ms, || match (self.probe)(path) {
            Ok((status, body)) if is_so(status, &body) => true,
            Ok((status, body)) => {
                let body: String = body.chars().take(80).collect();
                found = format!("{status} {body:?}");
                false
            }
            Err(why) => {
                found = why;
                false
            }
        });
        if so {
            return Ok(());
        }
        Err(DriverError::NotInForce {
            kind: self.settings.kind,
            url: format!("{}{path}", self.settings.url.trim_end_matches('/')),
            expected: expected.to_owned(),
            found,
            folder: self.settings.folder.clone(),
        })
    }

    fn in_flight(&self, state: &State, record: &Record) -> Result<Option<u64>, DriverError> {
        let count = || match self.settings.kind {
            Kind::Caddy => caddy::in_flight(&self.settings).map(Some),
            Kind::Haproxy => haproxy::in_flight(&self.settings).map(Some),
            Kind::Entracte => Ok(None),
            // Before the closing, nobody's workers have been replaced.
            Kind::Nginx | Kind::Apache if state.phase != Phase::Closed => Ok(None),
            Kind::Nginx | Kind::Apache => Ok(record
                .replaced
                .as_ref()
                .map(|replaced| replaced.iter().filter(|worker| worker.runs()).count() as u64)),
        };
        match count()? {
            Some(0) if state.phase == Phase::Closed => {
                std::thread::sleep(Duration::from_millis(LOOK_TWICE_MS));
                count()
            }
            counted => Ok(counted),
        }
    }

    fn standing(&self, state: State, record: &Record) -> Result<Standing, DriverError> {
        Ok(Standing {
            in_flight: self.in_flight(&state, record)?,
            phase: state.phase,
            generation: state.goal.generation,
            since: state.since,
            goal: state.goal,
            server_time: now(),
            grace_ms: self.settings.grace_ms,
            players_left: None,
            upstream_ok: is_reachable(&self.settings.upstream),
            at: self.settings.url.clone(),
        })
    }

    /// What a crash between the state on disk and its effect left undone.
    fn repair(&self) -> Result<(), DriverError> {
        let _one = self.lock()?;
        let state = self.load()?;
        if self.record().applied < state.goal.generation {
            let closes = self.capabilities().reloads_at_closing && state.phase == Phase::Closed;
            self.act(&state, closes)?;
        }
        Ok(())
    }
}

impl GateDriver for Front {
    fn kind(&self) -> Kind {
        self.settings.kind
    }

    fn status(&self) -> Result<Standing, DriverError> {
        if self.record().applied < self.load()?.goal.generation {
            self.repair()?;
        }
        self.standing(self.load()?, &self.record())
    }

    fn set(&self, goal: &Goal) -> Result<Standing, DriverError> {
        let cannot =
            |what, instead| DriverError::Cannot { kind: self.settings.kind, what, instead };
        match goal.phase {
            Phase::Holding => return Err(cannot("hold requests", "ask for closed")),
            Phase::Reopening => {
                return Err(cannot("let players in at a growing rate", "ask for open"));
            }
            Phase::Open | Phase::Announced | Phase::Draining | Phase::Closed => {}
        }
        let _one = self.lock()?;
        let before = self.load()?;
        let state = gate::accept(&before, goal, now())?;
        // A goal that is held already changes nothing, unless a crash kept it from being in force.
        if state == before && self.record().applied == state.goal.generation {
            return self.standing(state, &self.record());
        }
        let closes = self.is_reloaded_for(&before, &state);
        let changed = self.configure(&before, &state)?;
        if folder::door(&before) == "open" && folder::door(&state) != "open"
            || self.record().secret.is_empty()
        {
            self.renew_secret()?;
        }
        self.save(&state)?;
        self.act(&state, closes || changed)?;
        self.standing(state, &self.record())
    }

    fn pass(&self, _minutes: u32) -> Result<((String, String), String), DriverError> {
        let mut secret = self.record().secret;
        if secret.is_empty() {
            let _one = self.lock()?;
            secret = self.renew_secret()?.secret;
            self.write(&self.load()?)?;
        }
        Ok(((PASS_HEADER.to_owned(), secret.clone()), secret))
    }

    fn last_known(&self) -> Option<State> {
        self.load().ok()
    }
}

fn wait(patience_ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_millis(patience_ms);
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn is_reachable(upstream: &Upstream) -> bool {
    match upstream {
        Upstream::Unix(path) => UnixStream::connect(path).is_ok(),
        Upstream::Tcp { host, port } => {
            (host.as_str(), *port).to_socket_addrs().into_iter().flatten().any(|at| {
                TcpStream::connect_timeout(&at, Duration::from_millis(CONNECT_MS)).is_ok()
            })
        }
    }
}
