//! A short run of the fuzzer; `cargo run -p entracte-gate --example fuzz_http -- 600` runs longer.
#![allow(clippy::unwrap_used, reason = "to panic is to fail")]

mod common;
#[path = "common/malformed.rs"]
mod malformed;

use common::{Game, Gate, until};
use entracte_model::gate::Phase;
use malformed::{Random, stream, throw};

#[test]
fn malformed_streams_in_every_state_do_no_harm() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["limits"]["header_ms"] = 500.into();
        config["limits"]["body_idle_ms"] = 300.into();
        config["limits"]["parked_wait_ms"] = 300.into();
        config["limits"]["connect_retry_ms"] = 300.into();
    });
    let pid = gate.status().pid;
    let mut random = Random(20_260_101);
    for phase in [Phase::Open, Phase::Holding, Phase::Closed, Phase::Reopening] {
        gate.set(phase);
        for n in 0..150 {
            let bytes = stream(&mut random);
            throw(gate.address, &bytes, &mut random);
            if n % 50 == 0 {
                assert_eq!(gate.get("/_entracte/live", &[]).status, 200, "after {bytes:?}");
            }
        }
    }
    gate.set(Phase::Open);
    assert_eq!(gate.get("/", &[]).status, 200);
    assert_eq!(gate.status().pid, pid);
    until("nothing left in flight but tunnels", || {
        let status = gate.status();
        (status.in_flight == status.tunnels && status.parked == 0).then_some(())
    });
    let words = gate.words_at_the_end();
    assert!(words.is_empty(), "{words}");
    // The game was asked only for what can be read in one way.
    for got in game.got() {
        let both =
            got.header("content-length").is_some() && got.header("transfer-encoding").is_some();
        assert!(!both, "{got:?}");
    }
}
