//! One gate of any kind with a real game behind it.
#![allow(clippy::unwrap_used, reason = "helpers of tests: to panic is to fail")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use entracte_gate::external::{DriverError, Front, GateDriver, Kind, Own, Probe, Settings};
use entracte_model::gate::{Goal, Phase};
use entracte_testbed::fronts;
use entracte_testbed::http::Client;

use crate::common::{Game, Gate, Player, Reply, until};

pub const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
/// Everything but our own gate.
pub const FRONTS: [Kind; 4] = [Kind::Nginx, Kind::Caddy, Kind::Haproxy, Kind::Apache];

pub const IN: (&str, &str) = ("Cookie", "PHPSESSID=abc");

/// What stands in front, and how it is started and killed.
pub enum Server {
    Own(Box<Gate>),
    Front(fronts::Front),
}

/// One gate of any kind with the game behind it.
pub struct Stand {
    pub kind: Kind,
    pub game: Game,
    pub server: Server,
    pub driver: Box<dyn GateDriver + Send + Sync>,
    pub folder: PathBuf,
    _dir: tempfile::TempDir,
}

pub fn probe(url: String) -> Probe {
    Box::new(move |path| {
        let answer = Client::new(&url).get(path).map_err(|error| error.to_string())?;
        Ok((answer.status, answer.text()))
    })
}

pub fn settings(kind: Kind, front: &fronts::Front, folder: PathBuf, game: &Game) -> Settings {
    Settings {
        kind,
        folder,
        url: front.url(),
        upstream: game.address.into(),
        login: vec!["POST /login.php".parse().unwrap(), "/register*".parse().unwrap()],
        session_cookies: vec!["PHPSESSID".into(), "__Host-s.id".into()],
        health_paths: vec!["/health".into()],
        languages: vec!["en".into(), "fr".into()],
        game_name: "Taverne".into(),
        check: front.check(),
        reload: front.reload(),
        pid_file: front.pid_file(),
        admin: front.admin().to_string_lossy().into_owned(),
        backends: vec![],
        grace_ms: 1_000,
    }
}

impl Stand {
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {})
    }

    pub fn start_with(kind: Kind, change: impl FnOnce(&mut Settings)) -> Self {
        let game = Game::start();
        let dir = tempfile::Builder::new().prefix("front-").tempdir().unwrap();
        let which = match kind {
            Kind::Entracte => {
                let gate = Gate::start(game.address, |config| {
                    config["login"] = serde_json::json!(["POST /login.php", "/register*"]);
                });
                let socket = gate.config["control_socket"].as_str().unwrap().to_owned();
                let driver = Box::new(Own::new(socket.as_ref(), &gate.state_dir()));
                let folder = gate.state_dir();
                let server = Server::Own(Box::new(gate));
                return Self { kind, game, server, driver, folder, _dir: dir };
            }
            Kind::Nginx => fronts::Kind::Nginx,
            Kind::Caddy => fronts::Kind::Caddy,
            Kind::Haproxy => fronts::Kind::Haproxy,
            Kind::Apache => fronts::Kind::Apache,
        };
        let folder = dir.path().join("front");
        let mut front = fronts::Front::new(which, &dir.path().join("server"), game.address);
        let mut settings = settings(kind, &front, folder.clone(), &game);
        change(&mut settings);
        let driver = Front::new(settings, probe(front.url()));
        let snippets = driver.snippets().unwrap();
        // The third of nginx's is in the testbed's configuration, as it would be in a team's.
        let lines: Vec<String> = snippets.into_iter().take(2).map(|snippet| snippet.text).collect();
        front.start(&lines);
        driver.included().unwrap_or_else(|error| panic!("{error}\n{}", front.words()));
        let server = Server::Front(front);
        Self { kind, game, server, driver: Box::new(driver), folder, _dir: dir }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.server {
            Server::Own(gate) => gate.address,
            Server::Front(front) => front.address(),
        }
    }

    pub fn player(&self) -> Player {
        Player::connect(self.address())
    }

    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.player().ask("GET", target, headers, b"")
    }

    pub fn post(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.player().ask("POST", target, headers, b"gold=5")
    }

    pub fn set(&self, phase: Phase) -> Goal {
        self.set_with(phase, |_| {})
    }

    pub fn set_with(&self, phase: Phase, change: impl FnOnce(&mut Goal)) -> Goal {
        let generation = self.driver.next_generation().unwrap();
        let mut goal = Goal::new(generation, phase, "test");
        change(&mut goal);
        let standing = self.driver.set(&goal).unwrap_or_else(|error| self.fail(&error));
        assert_eq!((standing.phase, standing.generation), (phase, generation));
        goal
    }

    pub fn fail(&self, error: &DriverError) -> ! {
        let words = match &self.server {
            Server::Own(_) => String::new(),
            Server::Front(front) => front.words(),
        };
        panic!("{}: {error}\n{words}", self.kind)
    }

    pub fn in_flight(&self) -> Option<u64> {
        self.driver.status().unwrap_or_else(|error| self.fail(&error)).in_flight
    }

    /// Waits until nobody is in the game.
    pub fn empties(&self) {
        until("nobody in flight", || (self.in_flight() == Some(0)).then_some(()));
    }

    pub fn front(&mut self) -> &mut fronts::Front {
        match &mut self.server {
            Server::Front(front) => front,
            Server::Own(_) => panic!("our own gate is no front"),
        }
    }

    /// What is on disk, byte for byte, but for what is made anew at each goal.
    pub fn included_files(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "conf"))
            .map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()))
            .collect();
        all.sort();
        all
    }

    /// `kill -9` of all of it, and a start.
    pub fn crash(&mut self) {
        match &mut self.server {
            Server::Own(gate) => {
                gate.kill();
                gate.restart();
            }
            Server::Front(front) => {
                front.kill();
                front.start_again();
            }
        }
    }

    pub fn is_page(&self, reply: &Reply) {
        let kind = reply.header("content-type").unwrap_or_default().to_owned();
        assert_eq!(reply.status, 503, "{}: {reply:?}", self.kind);
        assert!(kind.starts_with("text/html"), "{}: {kind}", self.kind);
        assert!(reply.text().contains("Taverne") && reply.text().contains("data-entracte"));
        self.is_not_kept(reply);
    }

    pub fn is_not_kept(&self, reply: &Reply) {
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{}", self.kind);
        assert!(reply.header("retry-after").is_some(), "{}: {reply:?}", self.kind);
        assert!(reply.header("vary").unwrap_or_default().contains("Accept"), "{}", self.kind);
    }
}

pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
