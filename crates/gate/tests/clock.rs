//! The machine's clock jumps by hours, forward and back: nobody notices but the log.

mod common;

use std::path::PathBuf;

use common::{Game, Gate, until};
use entracte_model::gate::Phase;

const HOUR_MS: i64 = 3_600_000;

/// A gate whose wall clock the test can set off.
struct Clocked {
    gate: Gate,
    file: PathBuf,
}

impl Clocked {
    fn start(game: &Game) -> Self {
        let mut file = PathBuf::new();
        let gate = Gate::start(game.address, |config| {
            let state = PathBuf::from(config["state_dir"].as_str().expect("a path"));
            file = state.with_file_name("clock");
            std::fs::write(&file, "0").expect("the folder is there");
            config["limits"]["player_left_ms"] = 600_000.into();
        });
        Self { gate, file }
    }

    /// Returns when the gate's clock has jumped.
    fn jump(&self, hours: i64) {
        let off = (hours * HOUR_MS).to_string();
        let new = self.file.with_extension("new");
        std::fs::write(&new, &off).expect("written");
        std::fs::rename(&new, &self.file).expect("renamed");
        until("the clock's jump", || {
            let followed = std::fs::read_to_string(self.file.with_extension("followed"));
            followed.is_ok_and(|text| text == off).then_some(())
        });
    }

    /// The seconds after which a player is told to come back.
    fn retry_after(&self) -> u64 {
        let reply = self.gate.get("/", &[]);
        assert_eq!(reply.status, 503);
        reply.header("retry-after").expect("a time").parse().expect("a number")
    }
}

#[test]
fn a_promise_stays_what_it_was_and_a_new_one_counts_by_the_new_clock() {
    let game = Game::start();
    let clocked = Clocked::start(&game);
    let gate = &clocked.gate;
    for hours in [5, -5, 0] {
        // As whoever closes the gate tells the time: by the machine's clock.
        let promise = |gate: &Gate| {
            let now = gate.set(Phase::Closed).server_time;
            gate.set_with(Phase::Closed, |goal| goal.reopens_p50 = Some(now + 600_000))
        };
        promise(gate);
        clocked.jump(hours);
        // Ten minutes less what the test took, and up to a fifth more.
        let told = clocked.retry_after();
        assert!((500..=720).contains(&told), "{told} s after a jump to {hours} h");
        let status = gate.status();
        assert_eq!((status.overdue_ms, status.alarm.as_deref()), (0, None), "{hours} h");
        assert!(status.server_time.since(status.since) < 60_000, "{hours} h: closed for long");
        promise(gate);
        let told = clocked.retry_after();
        assert!((500..=720).contains(&told), "{told} s promised at {hours} h");
    }
}

#[test]
fn players_stay_in_testers_pass_and_deadlines_keep_their_distance() {
    let game = Game::start();
    let clocked = Clocked::start(&game);
    let gate = &clocked.gate;
    let ticket = gate.get("/", &[("Accept", "text/html")]).cookie("entracte_ticket").expect("one");
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=known")]).status, 200);
    let pass = gate.client().pass(5).expect("a pass").header;
    for hours in [30, -30] {
        clocked.jump(0);
        gate.set(Phase::Open);
        let now = gate.status().server_time;
        gate.set_with(Phase::Draining, |goal| goal.deadline = Some(now + 600_000));
        clocked.jump(hours);
        for cookie in [&*ticket, "PHPSESSID=known"] {
            assert_eq!(gate.get("/in", &[("Cookie", cookie)]).status, 200, "{cookie}, {hours} h");
        }
        assert_eq!(gate.get("/new", &[]).status, 503);
        let status = gate.status();
        assert_eq!(
            (status.phase, status.sessions_in, status.players_left),
            (Phase::Draining, 2, 2)
        );

        // A hold ends when it would have ended, and the gate closes by itself.
        gate.set(Phase::Open);
        let now = gate.status().server_time;
        gate.set_with(Phase::Holding, |goal| goal.deadline = Some(now + 2_000));
        clocked.jump(0);
        until("the end of the hold", || (gate.status().phase == Phase::Closed).then_some(()));
        clocked.jump(hours);
        assert_eq!(gate.get("/tester", &[(&pass.0, &pass.1)]).status, 200, "{hours} h");
        assert_eq!(gate.get("/", &[("Cookie", &ticket)]).status, 503);
    }
}
