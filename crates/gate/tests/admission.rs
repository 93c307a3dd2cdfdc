//! The reopening over real sockets: who comes in, in which order, and how fast.

mod common;

use std::time::{Duration, Instant};

use common::{Game, Gate, until};
use entracte_model::gate::Phase;

const HTML: (&str, &str) = ("Accept", "text/html");
/// The slowest admission, a second, and the first one where no peak is known.
const LEAST_PER_S: f64 = 0.5;
const FIRST_PER_S: f64 = 2.0;

fn start(game: &Game, step_ms: u64) -> Gate {
    Gate::start(game.address, |config| config["limits"]["ramp_step_ms"] = step_ms.into())
}

/// A player who is in.
fn come_in(gate: &Gate) -> String {
    gate.get("/", &[HTML]).cookie("entracte_ticket").expect("a ticket")
}

fn reopen(gate: &Gate) {
    gate.set(Phase::Closed);
    gate.set(Phase::Reopening);
}

#[test]
fn a_game_that_fails_under_the_first_players_gets_fewer_and_more_when_it_is_well() {
    let game = Game::start();
    let gate = start(&game, 300);
    let ticket = come_in(&gate);
    reopen(&gate);
    assert!(gate.status().admission_per_s >= FIRST_PER_S);
    until("a slower admission", || {
        gate.get("/error", &[("Cookie", &ticket)]);
        (gate.status().admission_per_s <= LEAST_PER_S).then_some(())
    });
    assert_eq!(gate.status().phase, Phase::Reopening);
    until("a faster admission", || {
        gate.get("/", &[("Cookie", &ticket)]);
        let status = gate.status();
        (status.admission_per_s > FIRST_PER_S || status.phase == Phase::Open).then_some(())
    });
    until("the end of the ramp", || (gate.status().phase == Phase::Open).then_some(()));
}

#[test]
fn a_game_that_became_slow_gets_fewer_players() {
    let game = Game::start();
    let gate = start(&game, 3_000);
    let ticket = come_in(&gate);
    // What is usual: answers within some milliseconds.
    let mut player = gate.player();
    for _ in 0..400 {
        assert_eq!(player.ask("GET", "/", &[("Cookie", &ticket)], b"").status, 200);
    }
    reopen(&gate);
    let mut slow: Vec<_> = (0..10).map(|_| gate.player()).collect();
    let asked = Instant::now();
    for player in &mut slow {
        player.request("GET", "/wait", &[("Cookie", &ticket)], b"");
    }
    until("requests in the game", || (gate.status().in_flight >= 10).then_some(()));
    // Slow is a matter of time: far more than any answer took before, on the busiest machine.
    until("a long time", || (asked.elapsed() > Duration::from_secs(3)).then_some(()));
    let before = gate.status();
    assert_eq!(before.phase, Phase::Reopening);
    game.go();
    for player in &mut slow {
        assert_eq!(player.reply("GET").unwrap().status, 200);
    }
    until("a slower admission", || {
        (gate.status().admission_per_s < before.admission_per_s).then_some(())
    });
}

#[test]
fn who_came_first_goes_in_first_and_reloading_or_forging_changes_nothing() {
    let game = Game::start();
    let gate = start(&game, 60_000);
    reopen(&gate);
    let place = |gate: &Gate| until("a place", || gate.get("/", &[HTML]).cookie("entracte_place"));
    let (first, second) = (place(&gate), place(&gate));
    let forged = format!("{}x", &second[..second.len() - 1]);
    let reply = gate.get("/", &[HTML, ("Cookie", &forged)]);
    assert_eq!(reply.status, 503, "a forged place let somebody in");
    assert_ne!(reply.cookie("entracte_place"), Some(second.clone()), "a forged place is none");
    let is_in = |place: &str| gate.get("/", &[HTML, ("Cookie", place)]).status == 200;
    until("the second's turn", || {
        let came = is_in(&second);
        assert!(!came || is_in(&first), "the second was let in before the first");
        came.then_some(())
    });
}

#[test]
fn a_tester_passes_in_every_state_and_the_game_never_sees_the_pass() {
    let game = Game::start();
    let gate = start(&game, 60_000);
    let pass = gate.client().pass(5).unwrap();
    let header = (pass.header.0.as_str(), pass.header.1.as_str());
    for phase in [Phase::Draining, Phase::Holding, Phase::Closed, Phase::Reopening, Phase::Open] {
        gate.set(phase);
        let path = format!("/{phase}");
        assert_eq!(gate.get(&path, &[header]).status, 200, "{phase}");
        let got = game.got().into_iter().find(|got| got.target == path).unwrap();
        assert_eq!(got.header("x-entracte-pass"), None);
    }
    gate.set(Phase::Closed);
    let value = &pass.header.1;
    let cut = &value[..value.len() - 2];
    for forged in [cut, "", "1.x.0.0", &value.to_lowercase()] {
        let reply = gate.get("/forged", &[(&pass.header.0, forged)]);
        assert_eq!(reply.status, 503, "{forged:?}");
    }
    assert_eq!(game.count("/forged"), 0);
    // Testers are no players: they do not keep a closed gate from being empty.
    assert_eq!(gate.status().in_flight, 0);
}
