//! The gate is killed, started twice, damaged, and asked for passes.

mod common;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use common::{Game, Gate, launch, until};
use entracte_gate::control::ControlError;
use entracte_model::gate::Phase;

#[test]
fn every_state_survives_kill_9() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    let path = [
        Phase::Announced,
        Phase::Draining,
        Phase::Holding,
        Phase::Closed,
        Phase::Reopening,
        Phase::Open,
    ];
    for phase in path {
        let before = gate.set(phase);
        gate.kill();
        assert!(matches!(gate.client().status(), Err(ControlError::NotRunning { .. })));
        gate.restart();
        let after = gate.status();
        assert_eq!((after.phase, &after.goal, after.since), (phase, &before.goal, before.since));
        assert_eq!(after.alarm, None);
        // The same goal again is accepted by the gate that came back.
        assert_eq!(gate.client().set(&before.goal).unwrap().phase, phase);
    }
}

#[test]
fn players_who_are_in_stay_in_over_kill_9() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    let ticket = gate.get("/", &[]).cookie("entracte_ticket").unwrap();
    gate.get("/", &[("Cookie", "PHPSESSID=known")]);
    // Session cookies are written every few seconds; tickets prove themselves.
    until("the sessions on disk", || {
        fs::metadata(gate.state_dir().join("sessions")).ok().filter(|about| about.len() > 8)
    });
    gate.set(Phase::Draining);
    gate.kill();
    gate.restart();
    assert_eq!(gate.get("/", &[("Cookie", &ticket)]).status, 200);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=known")]).status, 200);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=other")]).status, 503);
}

#[test]
fn a_state_that_cannot_be_read_closes_the_gate_with_an_alarm_and_is_kept() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Announced);
    gate.kill();
    let path = gate.state_dir().join("state.json");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    gate.restart();
    let status = gate.status();
    assert_eq!(status.phase, Phase::Closed);
    assert!(status.alarm.unwrap().contains("could not be read"));
    assert_eq!(gate.get("/", &[]).status, 503);
    assert!(game.got().is_empty());
    assert_eq!(fs::read(gate.state_dir().join("state.bad-1")).unwrap(), &whole[..whole.len() / 2]);
    assert_eq!(gate.set(Phase::Open).phase, Phase::Open);
    assert_eq!(gate.client().clear_alarm().unwrap().alarm, None);
}

#[test]
fn a_second_gate_is_refused_and_a_dead_ones_socket_is_replaced() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    let pid = gate.status().pid;
    let mut other = gate.config.clone();
    other["listen"] = "127.0.0.1:0".into();
    let refused = launch(gate.dir.path(), &other).unwrap_err();
    assert!(refused.contains("AlreadyRunning") && refused.contains(&pid.to_string()), "{refused}");
    // Its own socket, but the same state.
    other["control_socket"] = gate.dir.path().join("run/other.sock").to_str().into();
    assert!(launch(gate.dir.path(), &other).unwrap_err().contains("AlreadyRunning"));
    // The other way round: its own state, but the same socket.
    other["control_socket"] = gate.config["control_socket"].clone();
    other["state_dir"] = gate.dir.path().join("other").to_str().into();
    assert!(launch(gate.dir.path(), &other).unwrap_err().contains("AlreadyRunning"));
    assert_eq!(gate.status().pid, pid, "the first gate was disturbed");
    gate.kill();
    assert!(fs::exists(gate.config["control_socket"].as_str().unwrap()).unwrap());
    gate.restart();
    assert_ne!(gate.status().pid, pid);
}

#[test]
fn the_gates_files_are_its_owners_only() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = std::path::PathBuf::from(gate.config["control_socket"].as_str().unwrap());
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    assert_eq!(mode(&gate.state_dir()), 0o700);
    for file in ["state.json", "keys.json"] {
        assert_eq!(mode(&gate.state_dir().join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_by_key() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    for (key, value) in [
        ("login", serde_json::json!(["login.php"])),
        ("trusted_proxies", serde_json::json!(["everybody"])),
        ("upstream", serde_json::json!("nowhere")),
        ("upstraem", serde_json::json!("127.0.0.1:1")),
    ] {
        let mut config = gate.config.clone();
        config[key] = value;
        let refused = launch(gate.dir.path(), &config).unwrap_err();
        assert!(refused.contains(key), "{key}: {refused}");
    }
}

#[test]
fn stopping_lets_what_goes_on_finish() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    player.request("GET", "/wait", &[], b"");
    until("the request in the game", || (game.count("/wait") == 1).then_some(()));
    let address = gate.address;
    let answered = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| player.reply("GET").unwrap().text());
        let stopping = scope.spawn(|| gate.stop());
        // New connections are refused before the old request ends.
        until("a closed door", || TcpStream::connect(address).err());
        game.go();
        assert!(stopping.join().unwrap());
        waiting.join().unwrap()
    });
    assert_eq!(answered, "waited");
}

#[test]
fn a_tester_passes_a_closed_gate_and_leaves_no_trace_in_the_counts() {
    let game = Game::start();
    let mut gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Closed);
    let pass = gate.client().pass(5).unwrap();
    let header = (pass.header.0.as_str(), pass.header.1.as_str());
    assert_eq!(gate.get("/smoke", &[header]).status, 200);
    assert_eq!(gate.ask("POST", "/login.php", &[header], b"name=a").status, 302);
    let got = game.got();
    assert!(got.iter().all(|got| got.header("x-entracte-pass").is_none()));
    let status = gate.status();
    assert_eq!((status.in_flight, status.sessions_in), (0, 0));
    // The pass is signed, not remembered: it survives the gate.
    gate.kill();
    gate.restart();
    assert_eq!(gate.get("/smoke", &[header]).status, 200);
    // Not for another header's value, nor cut, nor changed.
    for forged in ["", "1.", &header.1[..header.1.len() - 2], &header.1.replace("1.", "1.A"), "x"] {
        assert_eq!(gate.get("/smoke", &[(header.0, forged)]).status, 503, "{forged}");
    }
    // Another gate's pass is none here.
    let other = Gate::start(game.address, |_| {});
    let foreign = other.client().pass(5).unwrap();
    assert_eq!(gate.get("/smoke", &[(header.0, &foreign.header.1)]).status, 503);
}

#[test]
fn a_browser_gets_its_pass_by_a_token_that_works_once() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Closed);
    let pass = gate.client().pass(5).unwrap();
    let page = gate.get("/_entracte/pass", &[("Accept", "text/html")]);
    assert!(page.status == 200 && page.text().contains("<form"));
    let form = format!("token={}", pass.url_token);
    let post = |headers: &[(&str, &str)], form: &str| {
        gate.ask("POST", "/_entracte/pass", headers, form.as_bytes())
    };
    assert_eq!(post(&[], "token=guess").status, 403);
    assert_eq!(post(&[("Sec-Fetch-Site", "cross-site")], &form).status, 403);
    let entered = post(&[("Sec-Fetch-Site", "same-origin")], &form);
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")));
    let set = entered.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
    let cookie = entered.cookie("entracte_pass").unwrap();
    assert_eq!(gate.get("/", &[("Cookie", &cookie)]).status, 200);
    assert_eq!(game.got()[0].header("cookie"), None);
    // The browser's pass is for the host that it was given on.
    assert_eq!(gate.get("/", &[("Cookie", &cookie), ("Host", "other.example")]).status, 503);
    assert_eq!(post(&[], &form).status, 403, "a token worked twice");
}

#[test]
fn the_control_socket_survives_nonsense() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["limits"]["control_line_bytes_max"] = 1_000.into();
    });
    let path = gate.config["control_socket"].as_str().unwrap();
    for nonsense in
        ["\n", "{}\n", "{\"do\":\"explode\"}\n", "[[[[[[\n", &format!("{}\n", "x".repeat(5_000))]
    {
        let mut stream = UnixStream::connect(path).unwrap();
        // The gate may hang up inside a line that is too long.
        let _ = stream.write_all(nonsense.as_bytes());
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"failed\":"), "{nonsense:.20}: {line}");
    }
    assert_eq!(gate.status().phase, Phase::Open);
}
