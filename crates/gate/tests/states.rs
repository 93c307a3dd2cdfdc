//! Each state of the gate meets each kind of request.

mod common;

use common::{Game, Gate, Player, until};
use entracte_model::UnixMs;
use entracte_model::gate::{AT_ONCE_LEAST, Phase, Refused};

const HTML: (&str, &str) = ("Accept", "text/html");
const SOCKET: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "x"),
    ("Sec-WebSocket-Version", "13"),
];

/// A player who came in while the gate was open: the ticket.
fn come_in(gate: &Gate) -> String {
    gate.get("/", &[]).cookie("entracte_ticket").expect("a ticket")
}

#[test]
fn open_and_announced_let_everybody_pass() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    for phase in [Phase::Open, Phase::Announced] {
        gate.set(phase);
        assert_eq!(gate.get("/", &[]).status, 200);
        assert_eq!(gate.ask("POST", "/login.php", &[], b"name=a").status, 302);
        assert_eq!(gate.get("/ws", &SOCKET).status, 101);
        assert!(gate.get("/health", &[]).text().contains("game"));
    }
}

#[test]
fn draining_lets_players_go_on_and_nobody_new_in() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let ticket = come_in(&gate);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=known")]).status, 200);
    gate.set(Phase::Draining);

    assert_eq!(gate.get("/", &[("Cookie", &ticket)]).status, 200);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=known")]).status, 200);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=invented")]).status, 503);
    assert_eq!(gate.get("/", &[("Cookie", "entracte_ticket=1.forged")]).status, 503);
    assert_eq!(gate.get("/", &[]).status, 503);
    // The login phase is closed for all, also for who was in and logged out.
    let login = gate.ask("POST", "/login.php", &[("Cookie", &ticket), HTML], b"name=a");
    assert_eq!(login.status, 503);
    assert!(login.text().contains("nobody new can log in now"));
    assert_eq!(game.count("/login.php"), 0);
    // A WebSocket only with a ticket.
    assert_eq!(gate.get("/ws", &SOCKET).status, 503);
    let mut headers = SOCKET.to_vec();
    headers.push(("Cookie", &ticket));
    assert_eq!(gate.get("/ws", &headers).status, 101);
}

#[test]
fn an_invented_cookie_does_not_become_known_by_being_tried_while_draining() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Draining);
    for _ in 0..3 {
        assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=invented")]).status, 503);
    }
    assert_eq!(gate.status().players_left, 0);
}

#[test]
fn a_session_is_in_by_logging_in_and_not_by_being_handed_out() {
    let game = Game::start();
    let logged_in = Gate::start(game.address, |_| {});
    assert!(logged_in.ask("POST", "/login.php", &[], b"name=a").cookie("PHPSESSID").is_some());
    logged_in.set(Phase::Draining);
    assert_eq!(logged_in.get("/", &[("Cookie", "PHPSESSID=fresh")]).status, 200);

    // A robot is given a session with every look at a page, and never comes back.
    let looked_at = Gate::start(game.address, |_| {});
    assert!(looked_at.get("/login.php", &[]).cookie("PHPSESSID").is_some());
    assert_eq!(looked_at.status().sessions_in, 0);
    looked_at.set(Phase::Draining);
    assert_eq!(looked_at.get("/", &[("Cookie", "PHPSESSID=fresh")]).status, 503);
}

#[test]
fn a_session_that_the_game_renews_while_draining_stays_in() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["login"] = serde_json::json!([]));
    let ticket = come_in(&gate);
    gate.set(Phase::Draining);
    // This path answers with Set-Cookie: PHPSESSID=fresh.
    assert_eq!(gate.ask("POST", "/login.php", &[("Cookie", &ticket)], b"x").status, 302);
    assert_eq!(gate.get("/", &[("Cookie", "PHPSESSID=fresh")]).status, 200);
}

#[test]
fn closed_answers_itself_and_the_game_gets_nothing() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let ticket = come_in(&gate);
    let before = game.got().len();
    let status = gate.set(Phase::Closed);
    assert_eq!((status.phase, status.in_flight), (Phase::Closed, 0));

    for headers in [&[][..], &[("Cookie", ticket.as_str())], &[HTML], &SOCKET] {
        for (method, body) in
            [("GET", &b""[..]), ("HEAD", b""), ("POST", b"gold=5"), ("DELETE", b"")]
        {
            let reply = gate.ask(method, "/trade", headers, body);
            assert_eq!(reply.status, 503, "{method} {headers:?}");
            assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 5);
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert_eq!(reply.header("vary"), Some("Accept, Accept-Language, Cookie"));
        }
    }
    assert_eq!(gate.get("/health", &[]).status, 200);
    assert_eq!(game.got().len(), before);
    gate.set(Phase::Open);
    assert_eq!(gate.get("/", &[]).status, 200);
}

#[test]
fn a_large_body_to_a_closed_gate_hears_the_answer_and_expect_sends_none() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["discard_ms"] = 10_000.into());
    gate.set(Phase::Closed);
    let mut player = gate.player();
    player.send(b"POST /upload HTTP/1.1\r\nHost: g\r\nContent-Length: 200000\r\n\r\n");
    player.send(&[b'x'; 100_000]);
    // Long enough for a gate that does not listen to close: the rest would then meet a reset.
    std::thread::sleep(std::time::Duration::from_millis(200));
    player.send(&[b'x'; 100_000]);
    let reply = player.reply("POST").expect("the answer was lost in a reset");
    assert_eq!(reply.status, 503);
    let mut player = gate.player();
    player.send(
        b"POST /upload HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(player.reply("POST").unwrap().status, 503);
}

#[test]
fn closing_waits_for_what_is_in_the_game_and_counts_it_truly() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    player.request("GET", "/wait", &[], b"");
    until("the request in the game", || (game.count("/wait") == 1).then_some(()));
    let status = gate.set(Phase::Closed);
    assert_eq!((status.phase, status.in_flight), (Phase::Closed, 1));
    game.go();
    assert_eq!(player.reply("GET").unwrap().text(), "waited");
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn holding_parks_and_lets_go_in_order() {
    let game = Game::start();
    // Slowly: the order in which the game notes them is what is looked at.
    let gate = Gate::start(game.address, |config| config["limits"]["release_per_s"] = 10.into());
    gate.set(Phase::Holding);
    let mut players: Vec<Player> = Vec::new();
    for n in 0..16u64 {
        let mut player = gate.player();
        let body = if n % 2 == 0 { &b""[..] } else { b"gold=5" };
        player.request(if n % 2 == 0 { "GET" } else { "POST" }, &format!("/turn/{n}"), &[], body);
        players.push(player);
        until("a parked request", || (gate.status().parked == n + 1).then_some(()));
    }
    assert_eq!(gate.status().in_flight, 0);
    assert_eq!(gate.get("/ws", &SOCKET).status, 503);
    assert!(game.got().is_empty());
    gate.set(Phase::Open);
    for player in &mut players {
        assert_eq!(player.reply("GET").unwrap().status, 200);
    }
    let mut order: Vec<String> = game.got().iter().map(|got| got.target.clone()).collect();
    // Those that go at once come on connections of their own, all together; the others in their order.
    order[..AT_ONCE_LEAST].sort();
    assert_eq!(order, (0..16).map(|n| format!("/turn/{n}")).collect::<Vec<_>>());
    assert!(game.got().iter().filter(|got| got.method == "POST").all(|got| got.body == b"gold=5"));
}

#[test]
fn parking_is_bounded_and_who_leaves_frees_the_place() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["limits"]["parked_max"] = 2.into());
    gate.set(Phase::Holding);
    let mut first = gate.player();
    first.request("GET", "/first", &[], b"");
    let mut second = gate.player();
    // A body that never comes in whole: only reading it shows that the client left.
    second.send(b"POST /second HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\nhalf");
    until("two parked", || (gate.status().parked == 2).then_some(()));
    assert_eq!(gate.get("/overflow", &[]).status, 503);
    drop(second);
    until("a free place", || (gate.status().parked == 1).then_some(()));
    let mut third = gate.player();
    third.request("GET", "/third", &[], b"");
    until("the place taken", || (gate.status().parked == 2).then_some(()));
    drop(first);
    until("a free place", || (gate.status().parked == 1).then_some(()));
    gate.set(Phase::Open);
    assert_eq!(third.reply("GET").unwrap().status, 200);
    let targets: Vec<String> = game.got().into_iter().map(|got| got.target).collect();
    assert_eq!(targets, ["/third"]);
}

#[test]
fn one_address_cannot_take_all_places() {
    let game = Game::start();
    let gate =
        Gate::start(game.address, |config| config["limits"]["parked_per_address_max"] = 1.into());
    gate.set(Phase::Holding);
    let mut first = gate.player();
    first.request("GET", "/", &[], b"");
    until("one parked", || (gate.status().parked == 1).then_some(()));
    assert_eq!(gate.get("/", &[]).status, 503);
}

#[test]
fn parked_requests_get_the_page_when_the_gate_closes_or_their_time_is_over() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Holding);
    let mut player = gate.player();
    player.request("POST", "/trade", &[], b"gold=5");
    until("one parked", || (gate.status().parked == 1).then_some(()));
    gate.set(Phase::Closed);
    assert_eq!(player.reply("POST").unwrap().status, 503);

    let gate = Gate::start(game.address, |config| config["limits"]["parked_wait_ms"] = 1.into());
    gate.set(Phase::Holding);
    assert_eq!(gate.get("/", &[]).status, 503);
    assert!(game.got().is_empty());
}

#[test]
fn reopening_lets_players_back_and_paces_newcomers() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let ticket = come_in(&gate);
    gate.set(Phase::Closed);
    gate.set(Phase::Reopening);
    assert_eq!(gate.get("/", &[("Cookie", &ticket)]).status, 200);
    // Nobody knows the peak yet: one newcomer at once, then two a second.
    assert_eq!(gate.get("/", &[HTML]).status, 200);
    let waiting = until("the waiting room", || {
        let reply = gate.get("/", &[HTML]);
        (reply.status == 503).then_some(reply)
    });
    assert!(waiting.text().contains("The curtain rises"));
    let place = waiting.cookie("entracte_place").expect("a place");
    let inside = until("the turn", || {
        let reply = gate.get("/", &[HTML, ("Cookie", &place)]);
        assert!(
            reply.status == 200
                || reply.cookie("entracte_place").is_none_or(|again| again == place)
        );
        (reply.status == 200).then_some(reply)
    });
    assert!(inside.cookie("entracte_ticket").is_some());
    assert!(gate.status().admitted >= 2);
    // A program that keeps no cookies takes no places.
    let before = gate.status().waiting;
    until("a refused program", || (gate.get("/", &[]).status == 503).then_some(()));
    assert!(gate.status().waiting <= before + 1);
}

#[test]
fn time_moves_an_announced_gate_to_draining_and_on_to_closed() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set_with(Phase::Announced, |goal| {
        let now = gate.status().server_time;
        goal.closes_at = Some(now + 300);
        goal.deadline = Some(now + 900);
    });
    assert_eq!(gate.status().phase, Phase::Announced);
    until("draining", || (gate.status().phase == Phase::Draining).then_some(()));
    until("closed", || (gate.status().phase == Phase::Closed).then_some(()));
    let goal = gate.status().goal;
    assert_eq!(goal.phase, Phase::Announced, "what was asked stays known");
    assert_eq!(gate.client().set(&goal).unwrap().phase, Phase::Closed);
}

#[test]
fn a_stale_goal_and_an_impossible_one_are_refused_by_kind() {
    use entracte_gate::control::ControlError;
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let first = gate.set(Phase::Closed).goal;
    gate.set(Phase::Open);
    let stale = gate.client().set(&first);
    assert!(
        matches!(stale, Err(ControlError::Refused(Refused::Stale { held: 2, asked: 1 }))),
        "{stale:?}"
    );
    let goal = entracte_model::gate::Goal::new(9, Phase::Reopening, "x");
    let illegal = gate.client().set(&goal);
    assert!(matches!(illegal, Err(ControlError::Refused(Refused::Illegal { .. }))), "{illegal:?}");
    assert_eq!(gate.status().phase, Phase::Open);
}

#[test]
fn a_promise_that_passed_is_an_alarm_and_the_gate_stays_closed() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let status = gate.set_with(Phase::Closed, |goal| {
        goal.reopens_p50 = Some(UnixMs(1_000));
        goal.reopens_p90 = Some(UnixMs(2_000));
    });
    assert!(status.overdue_ms > 0 && status.alarm.is_some());
    assert_eq!(status.phase, Phase::Closed);
    let page = gate.get("/", &[HTML]).text();
    assert!(page.contains("It takes longer than planned"));
}

#[test]
fn a_websocket_is_carried_and_told_when_the_gate_closes() {
    use std::io::Read;
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    assert_eq!(player.ask("GET", "/ws", &SOCKET, b"").status, 101);
    // A whole frame from the game's point of view: it echoes what it gets.
    player.send(&[0x81, 2, b'h', b'i']);
    let mut echo = [0; 4];
    player.reader.read_exact(&mut echo).unwrap();
    assert_eq!(echo, [0x81, 2, b'h', b'i']);
    let status = gate.status();
    assert_eq!((status.in_flight, status.tunnels), (1, 1));
    gate.set(Phase::Closed);
    let mut rest = Vec::new();
    player.reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xF4], "Close, 1012");
    until("no tunnel", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn an_event_stream_is_not_buffered_and_is_ended_politely() {
    use std::io::BufRead;
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    player.request("GET", "/events", &[], b"");
    let mut lines = String::new();
    while !lines.contains("hello 1\n") {
        assert!(player.reader.read_line(&mut lines).unwrap() > 0, "{lines}");
    }
    gate.set(Phase::Closed);
    let mut rest = String::new();
    until("the last event", || {
        player.reader.read_line(&mut rest).unwrap();
        rest.contains("event: entracte").then_some(())
    });
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}
