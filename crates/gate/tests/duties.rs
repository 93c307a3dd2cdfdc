//! What a gate does all the time: metrics, its log, bounds on clients that are slow or many.
#![allow(clippy::unwrap_used, reason = "to panic is to fail")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Game, Gate, until};
use entracte_model::gate::Phase;
use serde_json::json;

/// The value of a metric.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn metrics_count_what_players_met_on_the_socket_and_on_an_address() {
    let game = Game::start();
    let port = entracte_testbed::process::free_port();
    let gate = Gate::start(game.address, |config| {
        config["metrics_listen"] = json!(format!("127.0.0.1:{port}"));
    });
    for target in ["/", "/error", "/json"] {
        gate.get(target, &[("Cookie", "PHPSESSID=abc")]);
    }
    gate.set(Phase::Closed);
    gate.get("/", &[]);
    let text = gate.client().metrics().unwrap();
    assert_eq!(metric(&text, "entracte_gate_requests_total"), 4.0);
    assert_eq!(metric(&text, "entracte_gate_game_answers_total{class=\"2xx\"}"), 2.0);
    assert_eq!(metric(&text, "entracte_gate_game_answers_total{class=\"5xx\"}"), 1.0);
    assert_eq!(metric(&text, "entracte_gate_gate_answers_total"), 1.0);
    assert_eq!(metric(&text, "entracte_gate_phase{phase=\"closed\"}"), 1.0);
    assert_eq!(metric(&text, "entracte_gate_phase{phase=\"open\"}"), 0.0);
    assert_eq!(metric(&text, "entracte_gate_generation"), 1.0);
    assert_eq!(metric(&text, "entracte_gate_latency_seconds_count"), 3.0);
    assert_eq!(metric(&text, "entracte_gate_latency_seconds_bucket{le=\"+Inf\"}"), 3.0);
    assert!(!text.contains("abc"), "no cookie leaves the gate");
    // Each name is explained once, as collectors want it.
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);

    let mut collector = TcpStream::connect(("127.0.0.1", port)).unwrap();
    collector.write_all(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n").unwrap();
    let mut answer = String::new();
    collector.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(metric(&answer, "entracte_gate_requests_total"), 4.0);
}

#[test]
fn the_log_is_in_the_combined_format_and_begins_anew_after_a_hang_up() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        let dir = std::path::Path::new(config["state_dir"].as_str().unwrap()).parent().unwrap();
        config["access_log"] = json!(dir.join("access.log"));
    });
    let (log, moved) = (gate.dir.path().join("access.log"), gate.dir.path().join("moved.log"));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let headers = [("User-Agent", "a \"quoted\" one"), ("Referer", "http://g/?token=secret")];
    assert_eq!(gate.get("/market?password=secret", &headers).status, 200);
    until("the line", || (read(&log).lines().count() == 1).then_some(()));
    let line = read(&log);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /market HTTP/1.1\" 200 "), "{line}");
    assert!(line.contains("\"http://g/\" \"a ?quoted? one\""), "{line}");
    assert!(!line.contains("secret"), "{line}");

    std::fs::rename(&log, &moved).unwrap();
    let pid = i32::try_from(gate.status().pid).unwrap();
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    until("the new file", || log.exists().then_some(()));
    assert_eq!(gate.get("/after", &[]).status, 200);
    until("the next line", || (read(&log).lines().count() == 1).then_some(()));
    assert!(read(&log).contains("/after") && !read(&moved).contains("/after"));
    assert_eq!(gate.status().phase, Phase::Open, "a hang-up ends nothing");
}

#[test]
fn half_open_connections_take_no_place_from_players() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["header_ms"] = 1_000.into());
    // A quarter of what one process may have open, half of them silent, half with half a head.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let count = limit.map_or(1_000, |limit| (limit / 4).clamp(100, 1_000));
    let half: Vec<TcpStream> = (0..count)
        .map(|n| {
            let mut stream = TcpStream::connect(gate.address).unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: g\r\nX-Half").unwrap();
            }
            stream
        })
        .collect();
    assert_eq!(gate.get("/", &[]).status, 200, "while they are there");
    for mut stream in half {
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        // Cut: an end, or a reset where bytes were not read.
        assert!(!matches!(stream.read(&mut [0; 1]), Ok(1..)), "an answer to half a request");
    }
    until("all of them gone", || {
        (metric(&gate.client().metrics().unwrap(), "entracte_gate_connections") == 0.0)
            .then_some(())
    });
}

#[test]
fn where_all_are_answered_more_clients_wait_outside_and_come_in_when_there_is_room() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["connections_max"] = 2.into());
    let (mut first, mut second) = (gate.player(), gate.player());
    for player in [&mut first, &mut second] {
        player.request("GET", "/wait", &[], b"");
    }
    until("both in the game", || (game.count("/wait") == 2).then_some(()));
    let mut third = gate.player();
    third.request("GET", "/3", &[], b"");
    assert_eq!((gate.status().in_flight, game.count("/3")), (2, 0));
    game.go();
    assert_eq!(first.reply("GET").unwrap().status, 200);
    assert_eq!(second.reply("GET").unwrap().status, 200);
    assert_eq!(third.reply("GET").unwrap().status, 200);
}

#[test]
fn the_longest_idle_makes_room_and_whoever_owes_a_head_does_before_that() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["limits"]["connections_max"] = 40.into();
        config["limits"]["header_ms"] = 300_000.into();
    });
    let mut idle: Vec<common::Player> = (0..4).map(|_| gate.player()).collect();
    for player in &mut idle {
        assert_eq!(player.ask("GET", "/idle", &[], b"").status, 200);
    }
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(gate.address).unwrap();
        stream.write_all(b"GET /half HTTP/1.1\r\nHost: g").unwrap();
        half.push(stream);
    }
    // Behind all of them in the queue.
    assert_eq!(gate.get("/new", &[]).status, 200);
    for player in &mut idle {
        assert_eq!(player.ask("GET", "/still", &[], b"").status, 200, "an idle player was cut");
    }
    assert_eq!(game.count("/half"), 0);
    drop(half);
    until("all of them gone", || {
        (metric(&gate.client().metrics().unwrap(), "entracte_gate_connections") <= 4.0)
            .then_some(())
    });
    // Only idle clients: the longest idle goes, and those who ask are served.
    let mut many: Vec<common::Player> = Vec::new();
    for _ in 0..60 {
        let mut player = gate.player();
        assert_eq!(player.ask("GET", "/many", &[], b"").status, 200);
        many.push(player);
    }
    assert_eq!(game.count("/many"), 60);
    let open = metric(&gate.client().metrics().unwrap(), "entracte_gate_connections");
    assert!(open <= 41.0, "{open} connections");
}

#[test]
fn a_client_that_takes_no_answer_is_cut_and_frees_the_game() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["write_idle_ms"] = 300.into());
    // More answers than the buffers between the two can hold.
    let mut greedy: Vec<common::Player> = (0..8).map(|_| gate.player()).collect();
    for player in &mut greedy {
        for _ in 0..8 {
            player.request("GET", "/large", &[], b"");
        }
    }
    until("some in the game", || (game.count("/large") >= 8).then_some(()));
    gate.set(Phase::Closed);
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn nonsense_and_silence_of_the_game_are_clean_answers() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["answer_ms"] = 500.into());
    assert_eq!(gate.get("/nonsense", &[]).status, 502);
    assert_eq!(gate.get("/drop", &[]).status, 502);
    assert_eq!(gate.get("/wait", &[]).status, 504);
    assert!(gate.get("/die", &[]).body.is_none(), "half an answer is no whole one");
    assert!(gate.get("/die-chunked", &[]).body.is_none());
    game.go();
    assert_eq!(gate.get("/", &[]).status, 200);
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}
