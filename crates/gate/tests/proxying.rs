//! What passes through the gate, and what happens when one side breaks.

mod common;

use std::io::Read;
use std::net::SocketAddr;

use common::{Game, Gate, until};
use entracte_model::UnixMs;
use entracte_model::gate::Phase;

/// A port on which nobody listens, and on which a game may start later.
fn free_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], entracte_testbed::process::free_port()))
}

#[test]
fn a_connection_is_kept_and_used_again_on_both_sides() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    for _ in 0..5 {
        assert_eq!(player.ask("GET", "/", &[], b"").status, 200);
    }
    assert_eq!(player.ask("POST", "/trade", &[], b"gold=5").status, 200);
    assert_eq!(player.ask("HEAD", "/", &[], b"").status, 200);
    assert_eq!(player.ask("GET", "/close", &[], b"").status, 200);
    assert_eq!(player.ask("GET", "/", &[], b"").status, 200);
    assert!(game.connections() <= 3, "{} connections", game.connections());
}

#[test]
fn no_connection_to_the_game_outlives_a_closing() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.get("/", &[]);
    gate.get("/", &[]);
    gate.set(Phase::Closed);
    gate.set(Phase::Open);
    gate.get("/", &[]);
    let on: Vec<usize> = game.got().iter().map(|got| got.connection).collect();
    // A process of the old version could hold the old one, and answer with the old version.
    assert!(on[0] == on[1] && on[1] != on[2], "{on:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    player.request("GET", "/json", &[], b"");
    player.request("GET", "/error", &[], b"");
    assert_eq!(player.reply("GET").unwrap().text(), "{}");
    assert_eq!(player.reply("GET").unwrap().status, 500);
}

#[test]
fn bodies_stream_through_whole_chunked_or_asked_for() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let large: Vec<u8> = (0..300_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    assert_eq!(gate.ask("POST", "/upload", &[], &large).status, 200);
    assert!(game.got()[0].body == large, "the body changed on its way");

    let mut player = gate.player();
    player.send(b"POST /chunked HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!(game.got()[1].body, b"abcde");

    player.send(
        b"POST /expect HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    );
    let mut go = [0; 25];
    player.reader.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    player.send(b"abc");
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!(game.got()[2].body, b"abc");
    assert_eq!(game.got()[2].header("expect"), None);
}

#[test]
fn forged_forwarded_fields_are_overwritten() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Real-IP", "6.6.6.6"),
        ("Forwarded", "for=6.6.6.6"),
        ("Proxy", "http://6.6.6.6"),
        ("Connection", "X-Forwarded-For, Cookie"),
        ("Cookie", "a=1"),
    ];
    assert_eq!(gate.get("/", &forged).status, 200);
    let got = &game.got()[0];
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    assert_eq!(got.header("x-forwarded-host"), Some("game.example"));
    assert_eq!(got.header("cookie"), Some("a=1"));
    for gone in ["forwarded", "x_forwarded_for", "proxy"] {
        assert_eq!(got.header(gone), None, "{gone}");
    }
    assert!(!format!("{got:?}").contains("6.6.6.6"));
}

#[test]
fn a_listed_proxy_is_believed() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["trusted_proxies"] = serde_json::json!(["127.0.0.0/8"]);
    });
    let headers = [("X-Forwarded-For", "6.6.6.6, 1.2.3.4"), ("X-Forwarded-Proto", "https")];
    let reply = gate.get("/", &headers);
    let got = &game.got()[0];
    assert_eq!(got.header("x-forwarded-for"), Some("6.6.6.6, 1.2.3.4, 127.0.0.1"));
    assert_eq!(got.header("x-real-ip"), Some("1.2.3.4"));
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    let set = reply.header("set-cookie").unwrap();
    assert!(set.contains("; Secure"), "{set}");
}

#[test]
fn fields_of_one_connection_and_the_gates_own_cookies_stay_behind() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let headers = [
        ("Connection", "X-Private"),
        ("X-Private", "1"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("X-Entracte-Pass", "1.x"),
        ("Cookie", "a=1; entracte_ticket=x; entracte_pass=y; b=2"),
    ];
    let reply = gate.get("/hop", &headers);
    assert_eq!((reply.header("x-inner"), reply.header("x-outer")), (None, Some("2")));
    let got = &game.got()[0];
    for gone in ["x-private", "te", "upgrade", "x-entracte-pass"] {
        assert_eq!(got.header(gone), None, "{gone}");
    }
    assert_eq!(got.header("cookie"), Some("a=1; b=2"));
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n  folded\r\n\r\n",
        "CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut player = gate.player();
        player.send(request.as_bytes());
        let reply = player.reply("GET").unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert!((400..500).contains(&reply.status), "{request:?}: {}", reply.status);
    }
    assert!(game.got().is_empty(), "{:?}", game.got());
}

#[test]
fn a_length_beside_chunks_never_reaches_the_game() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    player.send(
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}",
            smuggled.len()
        )
        .as_bytes(),
    );
    let reply = player.reply("POST").unwrap();
    for got in game.got() {
        let both =
            got.header("content-length").is_some() && got.header("transfer-encoding").is_some();
        assert!(!both, "{got:?}");
    }
    // Read as chunks, what follows is a request of its own, which the gate decides about, too.
    assert!(reply.status == 400 || game.got()[0].body.is_empty());
}

#[test]
fn an_absolute_target_becomes_host_and_path() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    player.send(b"GET http://game.example:8080/market?x=1 HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(player.reply("GET").unwrap().status, 200);
    let got = &game.got()[0];
    assert_eq!(
        (got.target.as_str(), got.header("host")),
        ("/market?x=1", Some("game.example:8080"))
    );
}

#[test]
fn header_bombs_are_refused_and_slow_heads_cut() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["header_ms"] = 300.into());
    let many: Vec<(String, String)> =
        (0..200).map(|n| (format!("X-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(gate.get("/", &many).status, 431);
    assert_eq!(gate.get("/", &[("X-Long", "x".repeat(40_000).as_str())]).status, 431);

    let mut slow = gate.player();
    slow.send(b"GET / HTTP/1.1\r\nHost: g\r\nX-Slow:");
    assert!(slow.reply("GET").is_none(), "a head that never ends was answered");
    let mut silent = gate.player();
    assert!(silent.reply("GET").is_none(), "silence was answered");
    // A connection that had its request may be idle for longer than a head may take.
    let mut calm = gate.player();
    assert_eq!(calm.ask("GET", "/", &[], b"").status, 200);
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(calm.ask("GET", "/", &[], b"").status, 200);
    assert_eq!(game.got().len(), 2);
}

#[test]
fn a_body_that_pauses_for_too_long_is_given_up() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["body_idle_ms"] = 200.into());
    let mut player = gate.player();
    player.send(b"POST /upload HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(player.reply("POST").unwrap().status, 408);
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn a_game_that_dies_inside_an_answer_is_never_a_complete_answer() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    for path in ["/die", "/die-chunked"] {
        let reply = gate.get(path, &[]);
        assert_eq!((reply.status, reply.body), (200, None), "{path}");
    }
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn what_changes_nothing_is_asked_twice_and_what_may_change_something_once() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let get = gate.get("/drop", &[("Accept", "text/html")]);
    assert_eq!((get.status, game.count("/drop")), (502, 2));
    assert!(get.text().contains("does not answer"));
    assert_eq!(gate.ask("POST", "/drop?post", &[], b"gold=5").status, 502);
    assert_eq!(game.count("/drop?post"), 1);
    assert_eq!(gate.ask("DELETE", "/drop?delete", &[], b"").status, 502);
    assert_eq!(game.count("/drop?delete"), 1);
    assert_eq!(gate.get("/nonsense", &[]).status, 502);
    assert_eq!(game.count("/nonsense"), 1);
}

#[test]
fn a_kept_connection_that_died_costs_a_get_nothing() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    assert_eq!(gate.get("/", &[]).status, 200);
    // The game breaks the kept connection off when it gets this on it.
    assert_eq!(gate.get("/drop-reused", &[]).status, 200);
    assert_eq!(game.count("/drop-reused"), 2);
}

#[test]
fn a_game_that_restarts_loses_nothing() {
    let address = free_port();
    let gate = Gate::start(address, |config| config["limits"]["connect_retry_ms"] = 15_000.into());
    let mut players: Vec<_> = (0..20).map(|_| gate.player()).collect();
    for (n, player) in players.iter_mut().enumerate() {
        let body = if n % 2 == 0 { &b""[..] } else { b"gold=5" };
        player.request(if n % 2 == 0 { "GET" } else { "POST" }, &format!("/trade/{n}"), &[], body);
    }
    until("all of them waiting", || (gate.status().in_flight == 20).then_some(()));
    let game = Game::at(address);
    for player in &mut players {
        assert_eq!(player.reply("GET").unwrap().status, 200);
    }
    for n in 0..20 {
        assert_eq!(game.count(&format!("/trade/{n}")), 1, "trade {n}");
    }
}

#[test]
fn a_game_that_stays_away_is_a_clean_502() {
    let gate = Gate::start(free_port(), |config| config["limits"]["connect_retry_ms"] = 200.into());
    let page = gate.get("/", &[("Accept", "text/html"), ("Accept-Language", "fr")]);
    assert_eq!(page.status, 502);
    assert!(page.text().contains("Le jeu ne répond pas"));
    let problem = gate.ask("POST", "/", &[("Accept", "application/json")], b"x");
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    assert_eq!(problem.json()["status"], 502);
    assert!(!gate.status().upstream_ok);
    assert_eq!(gate.get("/_entracte/ready", &[]).status, 503);
    assert_eq!(gate.get("/_entracte/live", &[]).status, 200);
}

#[test]
fn those_who_wait_for_the_game_are_bounded_and_get_the_page_when_the_gate_closes() {
    let gate = Gate::start(free_port(), |config| {
        config["limits"] =
            serde_json::json!({ "connect_retry_ms": 20_000, "connect_waiting_max": 1 });
    });
    let mut first = gate.player();
    first.request("POST", "/", &[], b"gold=5");
    until("one waiting", || (gate.status().in_flight == 1).then_some(()));
    // A moment passes between the counting and the waiting place.
    until("no room", || (gate.get("/", &[]).status == 502).then_some(()));
    gate.set(Phase::Closed);
    assert_eq!(first.reply("POST").unwrap().status, 503);
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn a_game_on_a_unix_socket_is_reached() {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("game.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let game = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    });
    let gate = Gate::start(free_port(), |config| {
        config["upstream"] = format!("unix:{}", path.display()).into();
    });
    assert_eq!(gate.get("/", &[]).text(), "hi");
    game.join().unwrap();
}

#[test]
fn the_widget_is_put_into_pages_only_where_that_is_asked_for() {
    let game = Game::start();
    let plain = Gate::start(game.address, |_| {});
    assert!(!plain.get("/", &[]).text().contains("/_entracte/widget.js"));
    let gate = Gate::start(game.address, |config| config["inject_widget"] = true.into());
    let page = gate.get("/", &[]).text();
    let tag = "<script src=\"/_entracte/widget.js\" defer></script></head>";
    assert!(page.contains(tag) && page.ends_with("</html>"), "{page}");
    assert_eq!(gate.get("/json", &[]).text(), "{}");
    assert_eq!(gate.ask("HEAD", "/", &[], b"").status, 200);
}

#[test]
fn what_players_met_is_counted() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut sent = 0;
    // The bin may end between two requests: until one bin shows them all, go on.
    let bin = until("a bin with errors", || {
        let cookie = [("Cookie", "PHPSESSID=one")];
        for path in ["/", "/error", "/error"] {
            gate.get(path, &cookie);
            sent += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        let bins = gate.client().bins(UnixMs(0), UnixMs(i64::MAX)).unwrap();
        bins.into_iter().find(|bin| bin.errors > 1)
    });
    assert_eq!((bin.sessions, bin.sessions_with_error), (1, 1));
    assert!(bin.requests <= sent && bin.completed > 0 && bin.errors < bin.requests);
    assert_eq!(bin.latency_ms_log2.iter().sum::<u64>(), bin.completed);
    let hours = gate.client().hours().unwrap();
    assert_eq!(hours.last().unwrap().sessions, 1);
}
