//! "Closed, and nobody in the game" under load: the door falls between requests, not through them,
//! and whoever is refused gets a whole page.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use entracte_gate::external::Kind;
use entracte_model::gate::Phase;

use crate::common::{Player, until};
use crate::stand::{HTML, IN, Stand};

const PLAYERS: usize = 6;
/// How many refusals must be seen while nobody comes through.
const REFUSALS: usize = 40;

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    ok: AtomicUsize,
    refused: AtomicUsize,
    other: AtomicUsize,
}

/// Buys until it is told to stop, on a new connection each time: one that the server ends between two
/// requests is no lost purchase.
fn buys(address: SocketAddr, seen: &Seen) {
    while !seen.stop.load(Ordering::SeqCst) {
        let headers = [IN, ("Connection", "close")];
        let answer = Player::connect(address).ask("POST", "/buy", &headers, b"gold=5");
        let count = match answer.status {
            200 => &seen.ok,
            503 => &seen.refused,
            _ => &seen.other,
        };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

fn closes_between_requests(kind: Kind) {
    let stand = Stand::start(kind);
    let (seen, address) = (Seen::default(), stand.address());
    let at = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS).map(|_| scope.spawn(|| buys(address, &seen))).collect();
        for round in 1..=3 {
            let bought = at(&seen.ok);
            until("purchases", || (at(&seen.ok) > bought + REFUSALS).then_some(()));
            stand.set(Phase::Draining);
            stand.set(Phase::Closed);
            stand.empties();
            let (came, refused) = (stand.game.count("/buy"), at(&seen.refused));
            until("refusals", || (at(&seen.refused) > refused + REFUSALS).then_some(()));
            assert_eq!(stand.game.count("/buy"), came, "{kind}, round {round}: it was not closed");
            stand.set(Phase::Open);
        }
        seen.stop.store(true, Ordering::SeqCst);
        for player in players {
            player.join().unwrap();
        }
    });
    assert_eq!(at(&seen.other), 0, "{kind}: neither ok nor the page");
    assert_eq!(stand.game.count("/buy"), at(&seen.ok), "{kind}: each purchase once");
}

#[test]
fn nginx_closes_between_requests() {
    closes_between_requests(Kind::Nginx);
}

#[test]
fn caddy_closes_between_requests() {
    closes_between_requests(Kind::Caddy);
}

#[test]
fn haproxy_closes_between_requests() {
    closes_between_requests(Kind::Haproxy);
}

#[test]
fn apache_closes_between_requests() {
    closes_between_requests(Kind::Apache);
}

/// How often a page changes while it is asked for.
const CHANGES: usize = 60;

/// A page that changes is the old one or the new one for whoever asks meanwhile.
fn pages_change_whole(kind: Kind) {
    let stand = Stand::start(kind);
    let (stop, address) = (AtomicBool::new(false), stand.address());
    let read = AtomicUsize::new(0);
    let say = |text: &str| {
        let message = BTreeMap::from([("en".to_owned(), text.to_owned())]);
        stand.set_with(Phase::Closed, |goal| goal.message = message);
    };
    say("soon");
    thread::scope(|scope| {
        let asks = || {
            while !stop.load(Ordering::SeqCst) {
                let headers = [HTML, ("Connection", "close")];
                let answer = Player::connect(address).ask("GET", "/", &headers, b"");
                assert_eq!(answer.status, 503, "{kind}");
                assert!(answer.text().trim_end().ends_with("</html>"), "{kind}: {}", answer.text());
                read.fetch_add(1, Ordering::SeqCst);
            }
        };
        let readers: Vec<_> = (0..PLAYERS).map(|_| scope.spawn(asks)).collect();
        for round in 0..CHANGES {
            let before = read.load(Ordering::SeqCst);
            say(&"later ".repeat(round % 7));
            until("a page", || (read.load(Ordering::SeqCst) > before).then_some(()));
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn pages_of_nginx_change_whole() {
    pages_change_whole(Kind::Nginx);
}

#[test]
fn pages_of_caddy_change_whole() {
    pages_change_whole(Kind::Caddy);
}

#[test]
fn pages_of_haproxy_change_whole() {
    pages_change_whole(Kind::Haproxy);
}

#[test]
fn pages_of_apache_change_whole() {
    pages_change_whole(Kind::Apache);
}
