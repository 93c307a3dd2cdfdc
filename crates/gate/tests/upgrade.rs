//! A new program takes the door over while players play: nobody notices, nothing is forgotten.
#![allow(clippy::unwrap_used, reason = "to panic is to fail")]

mod common;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Game, Gate, Player, until};
use entracte_model::gate::{Goal, Phase};

/// Ends the gate that came out of an upgrade, which is no child of the test.
struct Successors<'a>(&'a Gate);

impl Drop for Successors<'_> {
    fn drop(&mut self) {
        let pid = self.0.client().status().ok().and_then(|status| i32::try_from(status.pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Plays on one connection, and on a new one when it is told so. How many answers were wrong.
fn play(
    address: std::net::SocketAddr,
    n: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut player = Player::connect(address);
    for turn in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (method, body) =
            if turn % 3 == 0 { ("POST", &b"gold=5"[..]) } else { ("GET", &b""[..]) };
        player.request(method, &format!("/turn/{n}/{turn}"), &[], body);
        match player.reply(method) {
            Some(reply) if reply.status == 200 => {
                if reply.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
                    player = Player::connect(address);
                }
            }
            other => {
                wrong.push(format!("{turn}: {:?}", other.map(|reply| reply.status)));
                player = Player::connect(address);
            }
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    wrong
}

#[test]
fn three_upgrades_under_load_lose_nothing() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let _end = Successors(&gate);
    let first = gate.set_with(Phase::Open, |goal| goal.version = Some("1.1.0".into()));
    let mut socket = gate.player();
    socket.request("GET", "/ws", &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b"");
    assert_eq!(socket.reply("GET").unwrap().status, 101);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let players: Vec<_> = (0..4)
        .map(|n| {
            let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), gate.address);
            std::thread::spawn(move || play(address, n, &stop, &done))
        })
        .collect();
    let more = |count: usize| {
        let from = done.load(Ordering::SeqCst);
        until("players to play", || (done.load(Ordering::SeqCst) >= from + count).then_some(()));
    };
    let mut pids = vec![first.pid];
    for _ in 0..3 {
        more(50);
        pids.push(gate.client().upgrade().unwrap());
        more(50);
        let status = gate.status();
        assert_eq!(status.pid, *pids.last().unwrap());
        assert_eq!(
            (status.generation, status.goal.version),
            (first.generation, Some("1.1.0".into()))
        );
        until("the tunnel in an older process", || (gate.status().tunnels == 1).then_some(()));
    }
    pids.dedup();
    assert_eq!(pids.len(), 4, "each upgrade is another process");
    // The WebSocket still lives in the first process.
    socket.send(b"\x81\x02hi");
    let mut echo = [0; 4];
    socket.reader.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"\x81\x02hi");
    stop.store(true, Ordering::SeqCst);
    let wrong: Vec<String> = players.into_iter().flat_map(|one| one.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let got = game.got();
    let mut turns: Vec<&str> =
        got.iter().map(|got| got.target.as_str()).filter(|t| t.starts_with("/turn")).collect();
    let all = turns.len();
    turns.sort_unstable();
    turns.dedup();
    assert_eq!((turns.len(), all), (done.load(Ordering::SeqCst), all), "none twice, none lost");
}

#[test]
fn what_the_old_gate_still_has_in_the_game_is_counted_and_follows_the_new_one() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let _end = Successors(&gate);
    let mut slow = gate.player();
    slow.request("GET", "/wait", &[], b"");
    until("the request in the game", || (game.count("/wait") == 1).then_some(()));
    gate.set(Phase::Holding);
    let mut parked = gate.player();
    parked.request("POST", "/parked", &[], b"gold=5");
    until("one parked", || (gate.status().parked == 1).then_some(()));

    gate.client().upgrade().unwrap();
    let status = gate.status();
    assert_eq!((status.phase, status.in_flight), (Phase::Holding, 1));
    until("the parked one known", || (gate.status().parked == 1).then_some(()));
    gate.set(Phase::Open);
    assert_eq!(parked.reply("POST").unwrap().status, 200);
    assert_eq!(game.count("/parked"), 1);

    let closed = gate.set(Phase::Closed);
    assert_eq!(
        (closed.phase, closed.in_flight),
        (Phase::Closed, 1),
        "closed and nothing in flight is a promise"
    );
    game.go();
    assert_eq!(slow.reply("GET").unwrap().text(), "waited");
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
    assert_eq!(gate.get("/", &[]).status, 503);
    // The old process ends when nobody is left in it.
    assert!(gate.status().pid != 0);
}

#[test]
fn players_who_are_in_and_the_generation_survive_an_upgrade() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let _end = Successors(&gate);
    let ticket = gate.get("/", &[]).cookie("entracte_ticket").unwrap();
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=abc")]).status, 200);
    let before = gate.set(Phase::Draining);
    gate.client().upgrade().unwrap();
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=abc")]).status, 200);
    assert_eq!(gate.get("/", &[("Cookie", &ticket)]).status, 200);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=other")]).status, 503);
    let stale = Goal::new(before.generation, Phase::Open, "a runner that was thought dead");
    assert!(gate.client().set(&stale).is_err());
    // Sequels are possible from either side: by signal, too.
    let pid = gate.status().pid;
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::USR2).unwrap();
    until("another process", || (gate.client().status().ok()?.pid != pid).then_some(()));
    assert_eq!(gate.status().generation, before.generation);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=abc")]).status, 200);
}

#[test]
fn a_program_that_does_not_start_leaves_the_old_gate_at_the_door() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Closed);
    let pid = gate.status().pid;
    // The configuration that the successor would read is broken.
    std::fs::write(gate.dir.path().join("gate.json"), "{").unwrap();
    let error = gate.client().upgrade().unwrap_err().to_string();
    assert!(error.contains("this gate goes on"), "{error}");
    let listen = gate.config["listen"].clone();
    for (key, value) in
        [("listen", serde_json::json!("127.0.0.1:1")), ("tls_cert", serde_json::json!("/nowhere"))]
    {
        gate.config[key] = value;
        std::fs::write(gate.dir.path().join("gate.json"), gate.config.to_string()).unwrap();
        assert!(gate.client().upgrade().is_err(), "{key}");
    }
    gate.config["listen"] = listen;
    assert_eq!((gate.status().pid, gate.status().phase), (pid, Phase::Closed));
    assert_eq!(gate.get("/", &[]).status, 503);
    gate.set(Phase::Open);
    assert_eq!(gate.get("/", &[]).status, 200);
}

#[test]
fn only_one_gate_has_the_locks_after_an_upgrade() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let _end = Successors(&gate);
    let pid = gate.client().upgrade().unwrap();
    let refused = common::launch(gate.dir.path(), &gate.config).unwrap_err();
    assert!(refused.contains("AlreadyRunning") && refused.contains(&pid.to_string()), "{refused}");
}
