//! One suite for everything that can stand in front of a game: our own gate, and the real nginx,
//! Caddy, HAProxy and Apache with what we have them include.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod load;
mod looks;
mod stand;
mod trouble;

use std::thread;

use common::until;
use entracte_gate::external::{DriverError, Kind};
use entracte_model::gate::{Goal, Phase, Refused};
use stand::{HTML, IN, Stand, unix_ms};

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
