//! Crashes, broken configurations, servers that are not there.

use std::fs;

use entracte_gate::external::{DriverError, Kind};
use entracte_model::gate::{Goal, Phase};

use crate::stand::{FRONTS, HTML, IN, Stand, unix_ms};

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
