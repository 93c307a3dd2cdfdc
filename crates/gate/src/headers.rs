//! Heads on their way through: hop-by-hop fields, forwarded fields, the gate's own cookies.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use crate::who::{PASS_COOKIE, PASS_COOKIE_HOST, PASS_HEADER, PLACE_COOKIE, TICKET_COOKIE, Who};

/// Fields that concern one connection only (RFC 9110, 7.6.1), `Expect`, which the gate answers
/// itself, and `Proxy`, which CGI would turn into a setting (httpoxy).
const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("proxy"),
];

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
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The head of a request as the game gets it.
pub(crate) fn for_game(
    parts: &Parts,
    who: &Who,
    peer: IpAddr,
    believed: bool,
    authority: &HeaderValue,
) -> HeaderMap {
    let mut headers = parts.headers.clone();
    remove_hop_by_hop(&mut headers);
    headers.remove(PASS_HEADER);
    take_own_cookies(&mut headers);
    // An absolute target overrides the Host field (RFC 9112, 3.2.2).
    match parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        Some(asked) => drop(headers.insert(header::HOST, asked)),
        None if !headers.contains_key(header::HOST) => {
            drop(headers.insert(header::HOST, authority.clone()));
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

fn forwarded(headers: &mut HeaderMap, who: &Who, peer: IpAddr, believed: bool) {
    let chain: Vec<&str> = if believed {
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect()
    } else {
        Vec::new()
    };
    let mut chain = chain.join(", ");
    if !chain.is_empty() {
        chain.push_str(", ");
    }
    chain.push_str(&peer.to_string());
    let told = |name: &str| headers.get(name).filter(|_| believed).cloned();
    let proto = told("x-forwarded-proto").unwrap_or(HeaderValue::from_static("http"));
    let host = told("x-forwarded-host").or_else(|| headers.get(header::HOST).cloned());
    let lookalikes: Vec<HeaderName> = headers
        .keys()
        .filter(|name| FORWARDED.contains(&name.as_str().replace('_', "-").as_str()))
        .filter(|name| !believed || name.as_str().contains('_'))
        .cloned()
        .collect();
    for name in lookalikes {
        headers.remove(name);
    }
    let mut set = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-forwarded-for", HeaderValue::from_str(&chain).ok());
    set("x-forwarded-proto", Some(proto));
    set("x-forwarded-host", host);
    set("x-real-ip", HeaderValue::from_str(&who.address.to_string()).ok());
}

/// The game never sees the gate's cookies.
fn take_own_cookies(headers: &mut HeaderMap) {
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
