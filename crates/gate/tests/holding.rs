//! What happens to each kind of request while the gate holds: the table in docs/gate.md, row by
//! row. Each is in the game exactly once, or never.
#![allow(clippy::unwrap_used, reason = "to panic is to fail")]

mod common;

use std::io::Read;

use common::{Game, Gate, Player, until};
use entracte_model::gate::Phase;

const SOCKET: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

fn parked(gate: &Gate, count: u64) {
    until("parked requests", || (gate.status().parked == count).then_some(()));
}

/// Sends `bytes` while the gate holds, opens it, and gives the answer.
fn held(gate: &Gate, bytes: &[u8]) -> Player {
    gate.set(Phase::Holding);
    let mut player = gate.player();
    player.send(bytes);
    parked(gate, 1);
    player
}

#[test]
fn a_small_body_is_read_while_it_waits_and_arrives_whole() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player =
        held(&gate, b"POST /small HTTP/1.1\r\nHost: g\r\nContent-Length: 6\r\n\r\ngold=5");
    gate.set(Phase::Open);
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!((game.count("/small"), game.got()[0].body.as_slice()), (1, &b"gold=5"[..]));
}

#[test]
fn a_large_body_waits_in_the_socket_and_streams_on() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let body = vec![b'x'; 3_000_000];
    let mut player = held(
        &gate,
        format!("POST /large HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n", body.len())
            .as_bytes(),
    );
    let mut out = player.reader.get_ref().try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut out, &sent).unwrap());
    gate.set(Phase::Open);
    assert_eq!(player.reply("POST").unwrap().status, 200);
    sending.join().unwrap();
    assert_eq!(game.count("/large"), 1);
    assert!(game.got()[0].body == body);
}

#[test]
fn a_chunked_body_that_is_still_being_sent_goes_on_after_the_release() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = held(
        &gate,
        b"POST /stream HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
    );
    gate.set(Phase::Open);
    until("the request let go", || (gate.status().parked == 0).then_some(()));
    player.send(b"3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!((game.count("/stream"), game.got()[0].body.as_slice()), (1, &b"onetwo"[..]));
}

#[test]
fn who_waits_for_100_continue_is_told_to_go_on_only_after_the_release() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = held(
        &gate,
        b"POST /expect HTTP/1.1\r\nHost: g\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n",
    );
    let socket = player.reader.get_ref().try_clone().unwrap();
    socket.set_nonblocking(true).unwrap();
    let early = (&socket).read(&mut [0; 1]);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "told while it waits");
    socket.set_nonblocking(false).unwrap();
    gate.set(Phase::Open);
    let mut line = [0; 25];
    player.reader.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    player.send(b"gold=5");
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!((game.count("/expect"), game.got()[0].body.as_slice()), (1, &b"gold=5"[..]));

    // A gate that closes instead says so, and the client never sends.
    let mut player = held(
        &gate,
        b"POST /never HTTP/1.1\r\nHost: g\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n",
    );
    gate.set(Phase::Closed);
    assert_eq!(player.reply("POST").unwrap().status, 503);
    assert_eq!(game.count("/never"), 0);
}

#[test]
fn a_websocket_is_refused_with_the_time_to_come_back() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Holding);
    let reply = gate.get("/ws", &SOCKET);
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 5);
    assert_eq!((gate.status().parked, game.got().len()), (0, 0));
}

#[test]
fn an_event_stream_waits_like_a_page_and_one_that_runs_is_ended_with_a_word() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut running = gate.player();
    running.request("GET", "/events", &[], b"");
    until("the stream in the game", || (game.count("/events") == 1).then_some(()));
    let mut player = held(&gate, b"GET /events HTTP/1.1\r\nHost: g\r\n\r\n");
    let ended = running.reply("GET").unwrap().text();
    assert!(ended.contains("retry: ") && ended.contains("event: entracte"), "{ended}");
    gate.set(Phase::Open);
    until("the new one in the game", || (game.count("/events") == 2).then_some(()));
    gate.set(Phase::Closed);
    assert!(player.reply("GET").unwrap().text().contains("hello 1"));
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Holding);
    for bytes in [
        &b"GET /left HTTP/1.1\r\nHost: g\r\n\r\n"[..],
        b"POST /left HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\n\r\ngold",
        b"POST /left HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST /left HTTP/1.1\r\nHost: g\r\nContent-Length: 900000\r\n\r\nhalf",
        b"POST /left HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut player = gate.player();
        player.send(bytes);
        parked(&gate, 1);
        drop(player);
        parked(&gate, 0);
    }
    gate.set(Phase::Open);
    assert_eq!(gate.get("/stays", &[]).status, 200);
    assert_eq!((game.count("/left"), game.count("/stays")), (0, 1));
}

#[test]
fn bodies_are_bounded_together_and_further_requests_get_the_page() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["limits"]["parked_bodies_bytes_max"] = 10.into();
        config["limits"]["parked_unread_max"] = 1.into();
    });
    let mut first =
        held(&gate, b"POST /1 HTTP/1.1\r\nHost: g\r\nContent-Length: 8\r\n\r\n12345678");
    assert_eq!(gate.ask("POST", "/2", &[], b"12345678").status, 503);
    let chunked: &[u8] =
        b"POST /3 HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let mut third = gate.player();
    third.send(chunked);
    parked(&gate, 2);
    let mut fourth = gate.player();
    fourth.send(chunked);
    assert_eq!(fourth.reply("POST").unwrap().status, 503);
    gate.set(Phase::Open);
    assert_eq!(first.reply("POST").unwrap().status, 200);
    assert_eq!(third.reply("POST").unwrap().status, 200);
    assert_eq!((game.count("/1"), game.count("/2"), game.count("/3")), (1, 0, 1));
}

#[test]
fn a_game_that_is_not_back_yet_when_they_are_let_go_gets_each_once() {
    let game = Game::start();
    let address = game.address;
    let gate = Gate::start(address, |config| config["limits"]["connect_retry_ms"] = 15_000.into());
    gate.set(Phase::Holding);
    drop(game);
    let mut get = gate.player();
    get.request("GET", "/get", &[], b"");
    let mut post = gate.player();
    post.request("POST", "/post", &[], b"gold=5");
    parked(&gate, 2);
    gate.set(Phase::Open);
    until("both in front of the game", || (gate.status().in_flight == 2).then_some(()));
    let game = Game::at(address);
    assert_eq!(get.reply("GET").unwrap().status, 200);
    assert_eq!(post.reply("POST").unwrap().status, 200);
    assert_eq!((game.count("/get"), game.count("/post")), (1, 1));
}

#[test]
fn what_the_game_took_and_did_not_answer_is_not_sent_again() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player =
        held(&gate, b"POST /drop HTTP/1.1\r\nHost: g\r\nContent-Length: 6\r\n\r\ngold=5");
    gate.set(Phase::Open);
    assert_eq!(player.reply("POST").unwrap().status, 502);
    assert_eq!(game.count("/drop"), 1);
}

#[test]
fn a_thousand_parked_are_let_go_at_the_rate_and_none_is_lost() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["limits"]["parked_per_address_max"] = 1_000.into();
        config["limits"]["parked_max"] = 300.into();
        config["limits"]["release_per_s"] = 1_000.into();
    });
    gate.set(Phase::Holding);
    let mut players: Vec<Player> = (0..300)
        .map(|n| {
            let mut player = gate.player();
            player.request("GET", &format!("/{n}"), &[], b"");
            player
        })
        .collect();
    // Fewer where the limit of open files is low: at most a quarter of it is parked.
    until("all parked or refused", || {
        let status = gate.status();
        (status.parked == 300 || status.parked > 0 && files_are_few()).then_some(())
    });
    gate.set(Phase::Open);
    let answered = players.iter_mut().map(|player| player.reply("GET").unwrap().status);
    let let_in = answered.filter(|status| *status == 200).count();
    assert_eq!(let_in, game.got().len());
    assert!(let_in == 300 || files_are_few(), "{let_in}");
}

fn files_are_few() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.is_some_and(|limit| limit < 1_300)
}
