//! Heads on their way through: hop-by-hop fields, forwarded fields, the gate's own cookies.

use std::fmt::Write;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use crate::server::Peer;
use crate::who::{
    PASS_COOKIE, PASS_COOKIE_HOST, PASS_HEADER, PLACE_COOKIE, TICKET_COOKIE, Who, has_own_cookies,
};

/// Fields that concern one connection only (RFC 9110, 7.6.1), `Expect`, which the gate answers
/// itself, and `Proxy`, which CGI would turn into a setting (httpoxy).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "proxy"
    )
}

/// Fields that a client may not have taken off by naming them in `Connection`.
const KEPT: [HeaderName; 5] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::AUTHORIZATION,
];

/// Fields that tell the game where a request came from. CGI cannot tell `_` from `-`, so both
/// spellings are taken off.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

const OWN_COOKIES: [&str; 4] = [TICKET_COOKIE, PLACE_COOKIE, PASS_COOKIE, PASS_COOKIE_HOST];

/// Takes off what concerns the connection only.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    // Few of them are ever there: looking at each field once is cheaper than looking for each.
    let found = headers.keys().filter(|name| is_hop_by_hop(name));
    let found: Vec<HeaderName> = found.cloned().collect();
    for name in named.iter().chain(&found) {
        headers.remove(name);
    }
}

/// The fields of a request as the game gets them. They are moved out of `parts`.
pub(crate) fn for_game(parts: &mut Parts, who: &Who, peer: &Peer, believed: bool) -> HeaderMap {
    let mut headers = std::mem::take(&mut parts.headers);
    remove_hop_by_hop(&mut headers);
    headers.remove(PASS_HEADER);
    take_own_cookies(&mut headers);
    join_cookies(&mut headers);
    // An absolute target overrides the Host field (RFC 9112, 3.2.2), as `:authority` does.
    match parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        Some(asked) => drop(headers.insert(header::HOST, asked)),
        // Only HTTP/1.0 comes without.
        None if !headers.contains_key(header::HOST) => {
            drop(headers.insert(header::HOST, HeaderValue::from_static("localhost")));
        }
        None => {}
    }
    forwarded(&mut headers, who, peer, believed);
    if who.is_upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    headers
}

/// HTTP/2 clients may send one cookie a field; HTTP/1 has one field (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let values: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// One of [`FORWARDED`], in either spelling.
fn is_forwarded(name: &str) -> bool {
    let same = |wanted: &&str| {
        wanted.len() == name.len()
            && wanted.bytes().zip(name.bytes()).all(|(w, n)| w == n || (w == b'-' && n == b'_'))
    };
    matches!(name.as_bytes()[0], b'f' | b'x') && FORWARDED.iter().any(same)
}

fn forwarded(headers: &mut HeaderMap, who: &Who, peer: &Peer, believed: bool) {
    let (chain, real) = match believed {
        true => (chain(headers, peer), HeaderValue::try_from(who.address.to_string()).ok()),
        false => (Some(peer.text.clone()), Some(peer.text.clone())),
    };
    let told = |name: &HeaderName| headers.get(name).filter(|_| believed).cloned();
    let own = HeaderValue::from_static(if peer.tls { "https" } else { "http" });
    let proto = told(&X_FORWARDED_PROTO).unwrap_or(own);
    let host = told(&X_FORWARDED_HOST).or_else(|| headers.get(header::HOST).cloned());
    let lookalikes: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_forwarded(name.as_str()))
        .filter(|name| !believed || name.as_str().contains('_'))
        .cloned()
        .collect();
    for name in lookalikes {
        headers.remove(name);
    }
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    set(X_FORWARDED_FOR, chain);
    set(X_FORWARDED_PROTO, Some(proto));
    set(X_FORWARDED_HOST, host);
    set(X_REAL_IP, real);
}

/// The addresses that proxies told of, and the nearest one behind them.
fn chain(headers: &HeaderMap, peer: &Peer) -> Option<HeaderValue> {
    let mut chain = String::with_capacity(48);
    let told = headers.get_all(&X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    for hop in told.filter(|hop| !hop.is_empty()) {
        chain.push_str(hop);
        chain.push_str(", ");
    }
    // A text takes every write.
    let _ = write!(chain, "{}", peer.ip);
    HeaderValue::try_from(chain).ok()
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The game never sees the gate's cookies.
fn take_own_cookies(headers: &mut HeaderMap) {
    if !has_own_cookies(headers) {
        return;
    }
    let is_own = |pair: &str| {
        pair.trim().split_once('=').is_some_and(|(name, _)| OWN_COOKIES.contains(&name))
    };
    let values: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    let mentions =
        values.iter().any(|value| value.to_str().is_ok_and(|text| text.split(';').any(is_own)));
    if !mentions {
        return;
    }
    headers.remove(header::COOKIE);
    for value in values {
        let kept = match value.to_str() {
            Ok(text) => {
                let others: Vec<&str> =
                    text.split(';').map(str::trim).filter(|pair| !is_own(pair)).collect();
                HeaderValue::from_str(&others.join("; ")).ok().filter(|value| !value.is_empty())
            }
            Err(_) => Some(value),
        };
        if let Some(kept) = kept {
            headers.append(header::COOKIE, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_concerns_the_connection_stays_behind_but_nobody_takes_off_the_cookie() {
        let mut headers = map(&[
            ("connection", "close, X-Private, Cookie, host"),
            ("x-private", "1"),
            ("cookie", "a=1"),
            ("host", "game"),
            ("te", "trailers"),
            ("proxy", "http://evil"),
            ("upgrade", "h2c"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1"), ("host", "game")]));
    }

    #[test]
    fn own_cookies_are_taken_off_and_others_are_left() {
        let mut headers =
            map(&[("cookie", "a=1; entracte_ticket=x; b=2"), ("cookie", "__Host-entracte_pass=y")]);
        take_own_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
        let mut untouched = map(&[("cookie", "a=1;b=2")]);
        take_own_cookies(&mut untouched);
        assert_eq!(untouched, map(&[("cookie", "a=1;b=2")]));
    }
}
