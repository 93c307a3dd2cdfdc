//! Requests that two servers could read in two ways, byte by byte over real sockets.
#![allow(clippy::unwrap_used, reason = "to panic is to fail")]

mod common;

use common::{Game, Gate};

const CHUNKED: &str = "POST /c HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What is wrong, and the bytes. Behind each stands a request that must never be answered.
const REFUSED: [(&str, &str); 31] = [
    (
        "length and chunks",
        "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks and length",
        "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    (
        "the same length twice",
        "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1, 1\r\n\r\na"),
    ("a signed length", "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: +1\r\n\r\na"),
    ("a negative length", "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: -1\r\n\r\na"),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 0xa\r\n\r\na"),
    ("no length", "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: \r\n\r\na"),
    (
        "a length that overflows",
        "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 18446744073709551617\r\n\r\na",
    ),
    ("a length that CGI would see", "POST / HTTP/1.1\r\nHost: g\r\nContent_Length: 1\r\n\r\na"),
    (
        "an encoding that CGI would see",
        "POST / HTTP/1.1\r\nHost: g\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("an unknown encoding", "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip\r\n\r\nabcd"),
    (
        "two encodings",
        "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "an encoding with a tail",
        "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost : g\r\n\r\n"),
    ("a folded line", "GET / HTTP/1.1\r\nHost: g\r\nX: 1\r\n  folded\r\n\r\n"),
    ("a folded first line", "GET / HTTP/1.1\r\n Host: g\r\n\r\n"),
    ("a bare line feed behind the first line", "GET / HTTP/1.1\nHost: g\r\n\r\n"),
    ("a bare line feed behind a field", "GET / HTTP/1.1\r\nHost: g\n\r\n"),
    ("a bare line feed at the end", "GET / HTTP/1.1\r\nHost: g\r\n\n"),
    ("a carriage return inside", "GET / HTTP/1.1\r\nHost: g\r\nX: a\rb: c\r\n\r\n"),
    ("a zero byte", "GET / HTTP/1.1\r\nHost: g\r\nX: a\0b\r\n\r\n"),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: g\r\nnothing\r\n\r\n"),
    ("two spaces", "GET  / HTTP/1.1\r\nHost: g\r\n\r\n"),
    ("a target with a space", "GET /a b HTTP/1.1\r\nHost: g\r\n\r\n"),
    ("another version", "GET / HTTP/1.2\r\nHost: g\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    ("a tunnel", "CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n"),
];

/// Bodies in chunks that are wrong.
const BAD_CHUNKS: [(&str, &str); 12] = [
    ("a signed size", "+1\r\na\r\n0\r\n\r\n"),
    ("a negative size", "-1\r\na\r\n0\r\n\r\n"),
    ("a size with its prefix", "0x1\r\na\r\n0\r\n\r\n"),
    ("a space before the size", " 1\r\na\r\n0\r\n\r\n"),
    ("a size that overflows", "fffffffffffffffff\r\na\r\n0\r\n\r\n"),
    ("no size", "\r\na\r\n0\r\n\r\n"),
    ("a bare line feed behind the size", "1\na\r\n0\r\n\r\n"),
    ("a bare line feed behind the chunk", "1\r\na\n0\r\n\r\n"),
    ("a chunk longer than it says", "1\r\nabc\r\n0\r\n\r\n"),
    ("a zero byte in the extension", "1;\0\r\na\r\n0\r\n\r\n"),
    ("a length behind the chunks", "1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n"),
    ("a folded trailer", "1\r\na\r\n0\r\n x\r\n\r\n"),
];

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n";

#[test]
fn no_request_that_can_be_read_in_two_ways_reaches_the_game() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    for (what, bytes) in REFUSED {
        // In one piece, and split in the middle: a head may come in any number of reads.
        for pieces in [1, 2] {
            let mut player = gate.player();
            let (front, back) = bytes.split_at(if pieces == 1 { 0 } else { bytes.len() / 2 });
            player.send(front.as_bytes());
            player.send(format!("{back}{SMUGGLED}").as_bytes());
            let reply = player.reply("GET").unwrap_or_else(|| panic!("{what}: no answer"));
            assert!((400..500).contains(&reply.status), "{what}: {}", reply.status);
            // A host that is missing or doubled is no question of borders.
            let borders_are_clear = what.contains("host") || what == "a tunnel";
            assert!(borders_are_clear || player.reply("GET").is_none(), "{what}: a second answer");
        }
    }
    let reached: Vec<_> = game.got().into_iter().filter(|got| got.target != "/smuggled").collect();
    assert!(reached.is_empty(), "{reached:?}");
    assert_eq!(gate.get("/", &[]).status, 200, "a good request is answered afterwards");
}

#[test]
fn wrong_chunks_break_the_request_off_and_hide_nothing_behind_them() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    for (what, body) in BAD_CHUNKS {
        let mut player = gate.player();
        player.send(format!("{CHUNKED}{body}{SMUGGLED}").as_bytes());
        let reply = player.reply("POST");
        let refused = reply.as_ref().is_none_or(|reply| (400..500).contains(&reply.status));
        assert!(refused, "{what}: {reply:?}");
        assert!(player.reply("GET").is_none(), "{what}: a second answer");
    }
    // The game in the tests notes a request only when its body is whole.
    assert!(game.got().is_empty(), "{:?}", game.got());
    let mut player = gate.player();
    player.send(format!("{CHUNKED}2;x=y\r\nab\r\n0\r\n\r\n").as_bytes());
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!(game.got()[0].body, b"ab");
}

#[test]
fn pipelined_requests_are_looked_at_like_the_first() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut player = gate.player();
    player.send(
        format!(
            "POST /one HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\n\r\n\n\n\r\n\
             GET /two HTTP/1.1\r\nHost : g\r\n\r\n{SMUGGLED}"
        )
        .as_bytes(),
    );
    assert_eq!(player.reply("POST").unwrap().status, 200);
    assert_eq!(player.reply("GET").map(|reply| reply.status), Some(400));
    assert!(player.reply("GET").is_none());
    assert_eq!(game.got().len(), 1);
    assert_eq!(game.got()[0].body, b"\n\n\r\n");
}
