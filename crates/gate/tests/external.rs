//! One suite for everything that can stand in front of a game: our own gate, and the real nginx,
//! Caddy, HAProxy and Apache with what we have them include.

mod common;

use std::fs;
use std::path::PathBuf;
use std::thread;

use common::{Game, Gate, Player, Reply, until};
use entracte_gate::external::{DriverError, Front, GateDriver, Kind, Own, Probe, Settings};
use entracte_model::gate::{Goal, Phase, Refused};
use entracte_testbed::fronts;
use entracte_testbed::http::Client;

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const IN: (&str, &str) = ("Cookie", "PHPSESSID=abc");

/// What stands in front, and how it is started and killed.
enum Server {
    Own(Box<Gate>),
    Front(fronts::Front),
}

/// One gate of any kind with the game behind it.
struct Stand {
    kind: Kind,
    game: Game,
    server: Server,
    driver: Box<dyn GateDriver + Send + Sync>,
    folder: PathBuf,
    _dir: tempfile::TempDir,
}

fn probe(url: String) -> Probe {
    Box::new(move |path| {
        let answer = Client::new(&url).get(path).map_err(|error| error.to_string())?;
        Ok((answer.status, answer.text()))
    })
}

fn settings(kind: Kind, front: &fronts::Front, folder: PathBuf, game: &Game) -> Settings {
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
    fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {})
    }

    fn start_with(kind: Kind, change: impl FnOnce(&mut Settings)) -> Self {
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

    fn player(&self) -> Player {
        Player::connect(match &self.server {
            Server::Own(gate) => gate.address,
            Server::Front(front) => front.address(),
        })
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.player().ask("GET", target, headers, b"")
    }

    fn post(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.player().ask("POST", target, headers, b"gold=5")
    }

    fn set(&self, phase: Phase) -> Goal {
        self.set_with(phase, |_| {})
    }

    fn set_with(&self, phase: Phase, change: impl FnOnce(&mut Goal)) -> Goal {
        let generation = self.driver.next_generation().unwrap();
        let mut goal = Goal::new(generation, phase, "test");
        change(&mut goal);
        let standing = self.driver.set(&goal).unwrap_or_else(|error| self.fail(&error));
        assert_eq!((standing.phase, standing.generation), (phase, generation));
        goal
    }

    fn fail(&self, error: &DriverError) -> ! {
        let words = match &self.server {
            Server::Own(_) => String::new(),
            Server::Front(front) => front.words(),
        };
        panic!("{}: {error}\n{words}", self.kind)
    }

    fn in_flight(&self) -> Option<u64> {
        self.driver.status().unwrap_or_else(|error| self.fail(&error)).in_flight
    }

    /// Waits until nobody is in the game.
    fn empties(&self) {
        until("nobody in flight", || (self.in_flight() == Some(0)).then_some(()));
    }

    fn front(&mut self) -> &mut fronts::Front {
        match &mut self.server {
            Server::Front(front) => front,
            Server::Own(_) => panic!("our own gate is no front"),
        }
    }

    /// What is on disk, byte for byte, but for what is made anew at each goal.
    fn included_files(&self) -> Vec<(String, String)> {
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
    fn crash(&mut self) {
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

    fn is_page(&self, reply: &Reply) {
        let kind = reply.header("content-type").unwrap_or_default().to_owned();
        assert_eq!(reply.status, 503, "{}: {reply:?}", self.kind);
        assert!(kind.starts_with("text/html"), "{}: {kind}", self.kind);
        assert!(reply.text().contains("Taverne") && reply.text().contains("data-entracte"));
        self.is_not_kept(reply);
    }

    fn is_not_kept(&self, reply: &Reply) {
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{}", self.kind);
        assert!(reply.header("retry-after").is_some(), "{}: {reply:?}", self.kind);
        assert!(reply.header("vary").unwrap_or_default().contains("Accept"), "{}", self.kind);
    }
}

/// What every gate does, in one body.
fn conforms(kind: Kind) {
    let mut stand = Stand::start(kind);
    passes_when_open(&stand);
    drains(&stand);
    shows_the_page(&stand);
    lets_testers_in(&stand);
    comes_back(&mut stand);
    waits_for_the_last_request(&stand);
    is_not_fooled(&stand);
    refuses_what_it_cannot(&stand);
}

fn passes_when_open(stand: &Stand) {
    assert_eq!(stand.get("/tavern", &[]).status, 200);
    assert_eq!(stand.post("/login.php", &[]).status, 302);
    assert_eq!(stand.post("/buy", &[IN]).status, 200);
    stand.set(Phase::Announced);
    assert_eq!(stand.get("/tavern", &[HTML]).status, 200);
    let status = stand.get("/_entracte/v1/status", &[]);
    assert_eq!((status.status, status.json()["phase"].as_str()), (200, Some("announced")));
    assert_eq!(status.json()["enter"], true);
}

fn drains(stand: &Stand) {
    stand.set(Phase::Draining);
    let logins = stand.game.count("/login.php");
    stand.is_page(&stand.post("/login.php", &[HTML, IN]));
    stand.is_page(&stand.get("/register/new", &[HTML, IN]));
    // The same route in another spelling.
    stand.is_page(&stand.post("//login%2Ephp?x=1", &[HTML, IN]));
    assert_eq!(stand.game.count("/login.php"), logins, "{}: a login came through", stand.kind);
    stand.is_page(&stand.get("/tavern", &[HTML]));
    stand.is_page(&stand.get("/tavern", &[HTML, ("Cookie", "other=1; PHPSESSID=")]));
    assert_eq!(stand.get("/tavern", &[HTML, IN]).status, 200, "{}", stand.kind);
    assert_eq!(stand.get("/login.php", &[IN]).status, 302, "{}: another method", stand.kind);
    assert_eq!(stand.post("/buy", &[IN]).status, 200, "{}: a player who is in", stand.kind);
}

fn shows_the_page(stand: &Stand) {
    let back = entracte_model::UnixMs(unix_ms() + 600_000);
    let closed = stand.set_with(Phase::Closed, |goal| {
        goal.reopens_p50 = Some(back);
        goal.message.insert("en".into(), "<b>the cellar</b> floods".into());
    });
    let before = stand.game.got().len();
    let page = stand.get("/tavern?x=1", &[HTML, IN]);
    stand.is_page(&page);
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.contains("sha256-"))
    );
    let french = stand.get("/", &[HTML, ("Accept-Language", "fr-FR,fr;q=0.9")]).text();
    assert!(french.contains("lang=\"fr\""), "{}: {french:.80}", stand.kind);
    if stand.driver.capabilities().tells_time_without_scripts {
        assert!(page.text().contains("&lt;b&gt;the cellar"), "{}", stand.kind);
    }
    for accept in ["application/json", "*/*"] {
        let problem = stand.get("/api/fights", &[("Accept", accept)]);
        assert_eq!((problem.status, problem.json()["status"].as_u64()), (503, Some(503)));
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem.json()["reopens"]["p50"].as_i64(), Some(back.0));
        stand.is_not_kept(&problem);
    }
    stand.is_page(&stand.post("/buy", &[HTML, IN]));
    assert_eq!(stand.post("/buy", &[IN]).status, 503);
    assert_eq!(stand.player().ask("HEAD", "/", &[], b"").status, 503);
    // What a page fetched before cannot be asked for again with "has it changed?".
    let conditional = [HTML, ("If-None-Match", "*"), ("Range", "bytes=0-9")];
    stand.is_page(&stand.get("/", &conditional));
    assert_eq!(stand.get("/health", &[]).status, 200, "{}", stand.kind);
    assert_eq!(stand.game.got().len(), before, "{}: the game was asked", stand.kind);
    let status = stand.get("/_entracte/v1/status", &[]).json();
    assert_eq!(
        (status["phase"].as_str(), status["enter"].as_bool()),
        (Some("closed"), Some(false))
    );
    assert_eq!(status["generation"], closed.generation);
    stand.empties();
    // Progress: the goal again, with another figure.
    stand.set_with(Phase::Closed, |goal| {
        goal.reopens_p50 = Some(back);
        goal.progress = Some(40);
    });
    assert_eq!(stand.get("/_entracte/v1/status", &[]).json()["progress"], 40, "{}", stand.kind);
    stand.empties();
}

fn lets_testers_in(stand: &Stand) {
    let ((name, value), token) = stand.driver.pass(30).unwrap();
    let by_header = stand.get("/tester", &[HTML, (&name, &value)]);
    assert_eq!(by_header.status, 200, "{}: {by_header:?}", stand.kind);
    let got = stand.game.got().pop().unwrap();
    assert_eq!(got.header(&name), None, "{}: the game saw the pass", stand.kind);
    if stand.kind != Kind::Entracte {
        let cookie = format!("a=1; entracte_pass={token}; b=2");
        assert_eq!(stand.get("/tester", &[("Cookie", &cookie)]).status, 200, "{}", stand.kind);
        let seen = stand.game.got().pop().unwrap();
        let seen = seen.header("cookie").unwrap_or_default().to_owned();
        assert!(seen.contains("a=1") && seen.contains("b=2"), "{}: {seen}", stand.kind);
        let hidden = stand.driver.capabilities().hides_pass;
        assert_eq!(!seen.contains(&token), hidden, "{}: {seen}", stand.kind);
        assert_eq!(stand.get("/_entracte/pass", &[HTML]).status, 200, "{}", stand.kind);
    }
    let long = "A".repeat(43);
    for forged in ["", "none", "*", "../flags/closed", "..", "/", &long, &value[1..]] {
        let reply = stand.get("/", &[(&name, forged)]);
        assert_eq!(reply.status, 503, "{}: {forged:?} let somebody in", stand.kind);
        let cookie = format!("entracte_pass={forged}");
        assert_eq!(stand.get("/", &[("Cookie", &cookie)]).status, 503, "{}: {forged}", stand.kind);
    }
}

fn comes_back(stand: &mut Stand) {
    let before = stand.driver.status().unwrap();
    stand.crash();
    let after = until("its status", || stand.driver.status().ok());
    assert_eq!((after.phase, &after.goal), (Phase::Closed, &before.goal));
    stand.is_page(&stand.get("/", &[HTML, IN]));
    assert_eq!(stand.in_flight(), Some(0), "{}", stand.kind);
    let ((name, value), _) = stand.driver.pass(30).unwrap();
    assert_eq!(stand.get("/tester", &[(&name, &value)]).status, 200, "{}", stand.kind);
    stand.set(Phase::Open);
    assert_eq!(stand.get("/tavern", &[HTML]).status, 200, "{}", stand.kind);
    stand.crash();
    assert_eq!(until("its status", || stand.driver.status().ok()).phase, Phase::Open);
    assert_eq!(stand.get("/tavern", &[HTML]).status, 200, "{}", stand.kind);
}

fn waits_for_the_last_request(stand: &Stand) {
    let slow = thread::spawn({
        let mut player = stand.player();
        move || player.ask("POST", "/wait", &[IN], b"gold=5")
    });
    until("the request in the game", || (stand.game.count("/wait") == 1).then_some(()));
    stand.set(Phase::Closed);
    let waiting = stand.in_flight();
    assert!(waiting.is_some_and(|count| count > 0), "{}: {waiting:?}", stand.kind);
    stand.is_page(&stand.get("/tavern", &[HTML, IN]));
    assert!(!slow.is_finished());
    stand.game.go();
    assert_eq!(slow.join().unwrap().status, 200, "{}: cut off", stand.kind);
    stand.empties();
    assert_eq!(stand.game.count("/wait"), 1, "{}: executed twice", stand.kind);
    let first = stand.driver.pass(30).unwrap().0;
    stand.set(Phase::Open);
    stand.set(Phase::Closed);
    if stand.kind != Kind::Entracte {
        assert_ne!(stand.driver.pass(30).unwrap().0, first, "a new pass for each closing");
        let old = stand.get("/", &[(&first.0, &first.1)]);
        assert_eq!(old.status, 503, "{}: the last closing's pass", stand.kind);
    }
    stand.set(Phase::Open);
}

fn is_not_fooled(stand: &Stand) {
    let held = stand.driver.status().unwrap().goal;
    let stale = Goal::new(held.generation, Phase::Closed, "late");
    let refused = stand.driver.set(&stale).unwrap_err();
    let is_stale = match &refused {
        DriverError::Refused(Refused::Stale { .. }) => true,
        DriverError::Own(error) => error.to_string().contains("holds generation"),
        _ => false,
    };
    assert!(is_stale, "{}: {refused}", stand.kind);
    assert_eq!(stand.driver.set(&held).unwrap().goal, held, "the same goal again");
    assert_eq!(stand.get("/tavern", &[]).status, 200);
    assert_eq!(stand.driver.last_known().unwrap().goal, held);
}

fn refuses_what_it_cannot(stand: &Stand) {
    let generation = stand.driver.next_generation().unwrap();
    let can = stand.driver.capabilities();
    let held = stand.driver.set(&Goal::new(generation, Phase::Holding, "test"));
    assert_eq!(held.is_ok(), can.can_hold, "{}", stand.kind);
    if let Err(error) = held {
        assert!(error.to_string().contains("ask for closed"), "{error}");
        assert_eq!(stand.get("/tavern", &[]).status, 200);
    }
    assert_eq!(can.shortcomings().is_empty(), stand.kind == Kind::Entracte);
}

fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[test]
fn our_own_gate_conforms() {
    conforms(Kind::Entracte);
}

#[test]
fn nginx_conforms() {
    conforms(Kind::Nginx);
}

#[test]
fn caddy_conforms() {
    conforms(Kind::Caddy);
}

#[test]
fn haproxy_conforms() {
    conforms(Kind::Haproxy);
}

#[test]
fn apache_conforms() {
    conforms(Kind::Apache);
}

const FRONTS: [Kind; 4] = [Kind::Nginx, Kind::Caddy, Kind::Haproxy, Kind::Apache];

/// How often each is reloaded by a whole release: nginx and Apache once, to prove that nobody is in.
#[test]
fn nothing_is_reloaded_that_says_so() {
    for kind in FRONTS {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("reloads");
        let stand = Stand::start_with(kind, |settings| {
            settings.reload = format!("echo reload >> {}; {}", log.display(), settings.reload);
        });
        let reloads = || fs::read_to_string(&log).unwrap_or_default().lines().count();
        for phase in [Phase::Announced, Phase::Draining] {
            stand.set(phase);
        }
        assert_eq!(reloads(), 0, "{kind}");
        stand.set(Phase::Closed);
        stand.set_with(Phase::Closed, |goal| goal.progress = Some(50));
        stand.set(Phase::Open);
        let once = usize::from(stand.driver.capabilities().reloads_at_closing);
        assert_eq!(reloads(), once, "{kind}");
    }
}

#[test]
fn a_configuration_that_the_server_does_not_take_changes_nothing() {
    for (kind, garbage) in [(Kind::Nginx, "nonsense;\n"), (Kind::Apache, "Nonsense On\n")] {
        let mut stand = Stand::start(kind);
        let config = stand.front().config();
        let (good, before) = (fs::read_to_string(&config).unwrap(), stand.included_files());
        let state = stand.driver.last_known().unwrap();
        fs::write(&config, format!("{good}{garbage}")).unwrap();
        let mut goal = Goal::new(state.goal.generation + 1, Phase::Closed, "test");
        goal.reopens_p50 = Some(entracte_model::UnixMs(unix_ms() + 60_000));
        let error = stand.driver.set(&goal).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DriverError::Test { .. }), "{kind}: {text}");
        assert!(text.to_lowercase().contains("nonsense"), "{kind}: {text}");
        assert_eq!(stand.included_files(), before, "{kind}");
        assert_eq!(stand.driver.last_known().unwrap(), state, "{kind}");
        assert_eq!(stand.get("/tavern", &[HTML]).status, 200, "{kind}");
        fs::write(&config, good).unwrap();
        assert_eq!(stand.driver.set(&goal).unwrap().phase, Phase::Closed);
        stand.is_page(&stand.get("/tavern", &[HTML]));
    }
}

/// A crash between the state on disk and the flag: whoever asks next finds the door as it was asked.
#[test]
fn what_was_on_disk_is_done_by_whoever_comes_next() {
    for kind in FRONTS {
        let stand = Stand::start(kind);
        stand.set(Phase::Announced);
        let mut state = stand.driver.last_known().unwrap();
        state.phase = Phase::Closed;
        state.goal = Goal::new(state.goal.generation + 1, Phase::Closed, "a runner that died");
        fs::write(stand.folder.join("state.json"), serde_json::to_vec(&state).unwrap()).unwrap();
        assert_eq!(stand.get("/tavern", &[HTML]).status, 200, "{kind}");
        assert_eq!(stand.driver.status().unwrap().phase, Phase::Closed);
        stand.is_page(&stand.get("/tavern", &[HTML]));
        stand.empties();
        let refused = stand.get("/tavern", &[("x-entracte-pass", "")]);
        assert_eq!(refused.status, 503, "{kind}");
    }
}

#[test]
fn what_cannot_be_known_is_said() {
    // Not included: the lines are not in the server's configuration.
    let mut stand = Stand::start_with(Kind::Nginx, |settings| {
        settings.pid_file = "/nonexistent/nginx.pid".into();
    });
    stand.set(Phase::Closed);
    let standing = stand.driver.status().unwrap();
    assert_eq!((standing.in_flight, standing.grace_ms), (None, 1_000), "nobody sees its workers");
    stand.set(Phase::Open);
    let state = stand.folder.join("state.json");
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(stand.driver.status(), Err(DriverError::State { .. })));
    assert_eq!(stand.get("/tavern", &[]).status, 200, "the server goes on");
    fs::remove_file(&state).unwrap();
    assert!(matches!(stand.driver.status(), Err(DriverError::State { .. })));
    fs::write(&state, whole).unwrap();
    stand.front().kill();
    stand.front().start(&[]);
    let generation = stand.driver.next_generation().unwrap();
    stand.front().kill();
    let goal = Goal::new(generation, Phase::Announced, "test");
    let stopped = stand.driver.set(&goal).unwrap_err();
    assert!(matches!(stopped, DriverError::NotInForce { .. }), "{stopped}");
}

/// The game is gone: a request gets the server's error, and is not sent to anybody again.
#[test]
fn a_game_that_dies_gets_no_request_twice() {
    for kind in FRONTS {
        let stand = Stand::start(kind);
        let broken = stand.post("/drop", &[IN]);
        assert!([502, 503, 504].contains(&broken.status), "{kind}: {}", broken.status);
        assert!(
            !String::from_utf8_lossy(&broken.body.unwrap()).contains("data-entracte"),
            "{kind}"
        );
        assert_eq!(stand.game.count("/drop"), 1, "{kind}");
    }
}
