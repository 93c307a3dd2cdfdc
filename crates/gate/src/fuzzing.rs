//! What reads bytes from outside, open to the fuzzer: each takes any bytes and must not panic,
//! and must not take what was not made by this gate. Nothing here runs in a gate.

use std::sync::LazyLock;

use entracte_model::UnixMs;
use entracte_model::gate::{Facts, LoginRule, Phase, State, accept, decide, due};
use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};

use crate::control::Ask;
use crate::headers;
use crate::strict::Strict;
use crate::tokens::Keys;
use crate::who;

#[cfg(test)]
#[path = "../tests/common/malformed.rs"]
#[allow(dead_code, reason = "the network half is for other tests")]
#[allow(clippy::unwrap_used, reason = "to panic is to fail")]
mod malformed;

const NOW: UnixMs = UnixMs(1_700_000_000_000);

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::for_fuzzing);

/// Cookie and forwarded fields.
pub fn cookies(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let mut fields = HeaderMap::new();
    fields.insert(header::COOKIE, value.clone());
    fields.insert("x-forwarded-for", value.clone());
    fields.insert(header::CONNECTION, value.clone());
    for (name, value) in who::cookies(&fields) {
        KEYS.session(name, value);
    }
    who::fuzz_forwarded(&fields);
    headers::remove_hop_by_hop(&mut fields);
}

/// Tickets, passes, places: none of them is believed.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(KEYS.read_ticket(text, NOW).is_none(), "a ticket that was not given");
    assert!(!KEYS.is_pass(text, "game.example", NOW), "a pass that was not given");
    assert!(KEYS.read_place(text).is_none(), "a place that was not given");
}

/// A line on the control socket, and the goal in it.
pub fn control(data: &[u8]) {
    if let Ok(Ask::Set { goal }) = serde_json::from_slice(data)
        && let Ok(next) = accept(&State::initial(NOW), &goal, NOW)
    {
        assert!(next.goal.generation > 0);
        due(&next, NOW);
        let text = serde_json::to_vec(&next).expect("a state has only texts and numbers");
        assert_eq!(serde_json::from_slice::<State>(&text).ok(), Some(next));
    }
}

/// The state file, and what a gate in that state does.
pub fn state(data: &[u8]) {
    let Ok(state) = serde_json::from_slice::<State>(data) else { return };
    due(&state, NOW);
    let facts = Facts {
        method: "GET",
        path: "/",
        has_ticket: true,
        has_session_cookie: true,
        is_tester: false,
        is_upgrade: false,
        is_health: false,
    };
    let action = decide(&state, &[], &facts);
    let passes = matches!(action, entracte_model::gate::Action::Pass { .. });
    assert!(!(passes && state.phase.is_fenced()), "a fenced gate let somebody through");
}

/// A login rule, and a request against it.
pub fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (rule, path) = text.split_once('\n').unwrap_or((text, "/"));
    if let Ok(rule) = rule.parse::<LoginRule>() {
        rule.matches("POST", path);
        let facts = Facts {
            method: "POST",
            path,
            has_ticket: false,
            has_session_cookie: false,
            is_tester: false,
            is_upgrade: false,
            is_health: false,
        };
        for phase in Phase::ALL {
            decide(&State { phase, ..State::initial(NOW) }, std::slice::from_ref(&rule), &facts);
        }
    }
}

/// The borders of requests: in one piece and in many, the same verdict at the same byte.
pub fn borders(data: &[u8]) {
    let whole = Strict::new(4_096).feed(data);
    let mut strict = Strict::new(4_096);
    let in_bytes = data.chunks(1).map(|byte| strict.feed(byte)).any(|verdict| verdict.is_err());
    assert_eq!(whole.is_err(), in_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&[u8]; 7] = [
        b"a=1; PHPSESSID=xyz; entracte_ticket=1.AQAAAZ",
        b"1.AQAAAYvPoggAAAAAAAAAAAAAAAAAAAAA",
        br#"{"do":"set","goal":{"generation":7,"phase":"closed","reason":"x","message":{"fr":"y"},"progress":5}}"#,
        br#"{"format":1,"phase":"draining","goal":{"generation":7,"phase":"draining","deadline":9},"since":5}"#,
        b"POST /login*\n/login.php",
        b"1.2.3.4, ::1, unknown",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ];

    #[test]
    fn a_short_run_of_every_target() {
        let mut random = malformed::Random(7);
        for round in 0..4_000 {
            let mut bytes = SEEDS[random.below(SEEDS.len())].to_vec();
            for _ in 0..random.below(5) {
                let at = random.below(bytes.len() + 1);
                let other = SEEDS[random.below(SEEDS.len())];
                match random.below(3) {
                    0 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                    1 => bytes.truncate(at),
                    _ => drop(
                        bytes.splice(at..at, other[random.below(other.len())..].iter().copied()),
                    ),
                }
            }
            for target in [cookies, tokens, control, state, rules, borders] {
                target(&bytes);
            }
            if round % 20 == 0 {
                borders(&malformed::stream(&mut random));
            }
        }
    }
}
