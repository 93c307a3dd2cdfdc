//! Who asks: what a request's head says about its client, read once.

use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

use entracte_model::UnixMs;
use hyper::body::Body;
use hyper::header::{self, AsHeaderName, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};
use memchr::memmem::Finder;

use crate::config::Network;
use crate::core::Core;
use crate::server::Peer;
use crate::tokens::{Place, SessionKey, Ticket};

/// The ticket of a player who is in.
pub(crate) const TICKET_COOKIE: &str = "entracte_ticket";
/// A place in the waiting room.
pub(crate) const PLACE_COOKIE: &str = "entracte_place";
/// A tester's pass on plain HTTP. Browsers refuse the `__Host-` form there.
pub(crate) const PASS_COOKIE: &str = "entracte_pass";
/// A tester's pass on HTTPS.
pub(crate) const PASS_COOKIE_HOST: &str = "__Host-entracte_pass";
/// A tester's pass for machines.
pub(crate) const PASS_HEADER: HeaderName = HeaderName::from_static("x-entracte-pass");
/// What the names of all these cookies have in common.
const OWN_COOKIES_PART: &[u8] = b"entracte_";
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
/// How much of a list of wished languages is looked at, in bytes.
const ACCEPT_LANGUAGE_MAX: usize = 256;

/// The client of one request.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    /// The client's address, as far as proxies are believed.
    pub(crate) address: IpAddr,
    /// The client spoke HTTPS, to the gate or to a proxy that is believed.
    pub(crate) secure: bool,
    pub(crate) ticket: Option<Ticket>,
    /// Session cookies, in the order of the configuration.
    pub(crate) cookies: Vec<SessionKey>,
    /// What the client is counted by.
    pub(crate) session: SessionKey,
    pub(crate) is_tester: bool,
    pub(crate) is_upgrade: bool,
    pub(crate) is_health: bool,
    pub(crate) is_login: bool,
    pub(crate) place: Option<Place>,
    pub(crate) wants_html: bool,
    accept_language: Option<HeaderValue>,
    /// The client sends its body only when it is told to go on.
    pub(crate) expects: bool,
    /// The length of the request's body, where it is known.
    pub(crate) body_bytes: Option<usize>,
}

/// The gate's own cookies and passes among the fields, as they were sent.
#[derive(Default)]
struct Own<'a> {
    ticket: Option<&'a str>,
    place: Option<&'a str>,
    passes: [Option<&'a str>; 3],
}

impl<'a> Own<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut own = Self::default();
        own.passes[0] = headers.get(PASS_HEADER).and_then(|value| value.to_str().ok());
        if !has_own_cookies(headers) {
            return own;
        }
        for (name, value) in cookies(headers) {
            let found = match name {
                TICKET_COOKIE => &mut own.ticket,
                PLACE_COOKIE => &mut own.place,
                PASS_COOKIE_HOST => &mut own.passes[1],
                PASS_COOKIE => &mut own.passes[2],
                _ => continue,
            };
            // Of two with one name the first counts.
            found.get_or_insert(value);
        }
        own
    }
}

/// What the cookies of a request say.
#[derive(Debug, Clone, Default)]
struct Known {
    cookies: Vec<SessionKey>,
    ticket: Option<Ticket>,
}

impl Known {
    fn of(core: &Core, headers: &HeaderMap, own: &Own<'_>, now: UnixMs) -> Self {
        let ticket = own.ticket.and_then(|token| core.keys.read_ticket(token, now));
        let names = core.config.session_cookies.iter();
        let cookies = names.filter_map(|name| {
            let (_, value) = cookies(headers).find(|(n, _)| n == name)?;
            (!value.is_empty()).then(|| core.keys.session(name, value))
        });
        Self { cookies: cookies.collect(), ticket }
    }
}

/// What the last cookies of a connection said. A browser sends the same ones with every request,
/// and hashing them each time would cost more than all else that the gate looks at.
#[derive(Debug, Default)]
pub(crate) struct CookieMemo(Mutex<Option<(HeaderValue, Known)>>);

impl CookieMemo {
    fn known(&self, core: &Core, headers: &HeaderMap, own: &Own<'_>, now: UnixMs) -> Known {
        let mut fields = headers.get_all(header::COOKIE).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Known::of(core, headers, own, now);
        };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((same, known)) if same == field => {
                let mut known = known.clone();
                // A ticket ages; a session's key does not.
                known.ticket = known.ticket.filter(|ticket| ticket.is_valid(now));
                known
            }
            _ => {
                let known = Known::of(core, headers, own, now);
                // Its own copy: a part of the connection's buffer would keep all of that.
                if let Ok(copy) = HeaderValue::from_bytes(field.as_bytes()) {
                    *last = Some((copy, known.clone()));
                }
                known
            }
        }
    }
}

/// Whether any of the gate's own cookies can be among those of a request.
pub(crate) fn has_own_cookies(headers: &HeaderMap) -> bool {
    static PART: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(OWN_COOKIES_PART));
    let mut values = headers.get_all(header::COOKIE).iter();
    values.any(|value| PART.find(value.as_bytes()).is_some())
}

impl Who {
    pub(crate) fn of(
        core: &Core,
        parts: &Parts,
        body: &impl Body,
        peer: &Peer,
        memo: &CookieMemo,
        now: UnixMs,
    ) -> Self {
        let headers = &parts.headers;
        let trusted = &core.parsed.trusted;
        let believed = trusted.iter().any(|network| network.contains(peer.ip));
        let address = if believed { client_behind(headers, trusted, peer.ip) } else { peer.ip };
        let told = || text(headers, "x-forwarded-proto").eq_ignore_ascii_case("https");
        let secure = peer.tls || (believed && told());
        let own = Own::of(headers);
        let Known { cookies, ticket } = memo.known(core, headers, &own, now);
        let session = match (cookies.first(), &ticket) {
            (Some(key), _) => *key,
            (None, Some(ticket)) => ticket.id,
            (None, None) => {
                core.keys.anonymous(&address.to_string(), text(headers, header::USER_AGENT))
            }
        };
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        let mut who = Self {
            is_upgrade: is_websocket(parts),
            is_health: core.config.health_paths.iter().any(|health| health == path),
            is_login: core.parsed.login.iter().any(|rule| rule.matches(method, path)),
            place: own.place.and_then(|token| core.keys.read_place(token)),
            wants_html: wants_html(headers),
            accept_language: headers.get(header::ACCEPT_LANGUAGE).cloned(),
            expects: headers.contains_key(header::EXPECT),
            body_bytes: body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            host: headers.get(header::HOST).cloned(),
            address,
            secure,
            ticket,
            cookies,
            session,
            is_tester: false,
        };
        let mut passes = own.passes.into_iter().flatten().peekable();
        if passes.peek().is_some() {
            let host = who.host();
            who.is_tester = passes.any(|token| core.keys.is_pass(token, &host, now));
        }
        who
    }
}

impl Who {
    /// Path without query.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The languages that the client wishes for, as it wrote them.
    pub(crate) fn accept_language(&self) -> &str {
        let wished = self.accept_language.as_ref().and_then(|value| value.to_str().ok());
        let wished = wished.unwrap_or("");
        wished.get(..ACCEPT_LANGUAGE_MAX).unwrap_or(wished)
    }

    /// The host asked for, without its port.
    pub(crate) fn host(&self) -> String {
        let told = || self.host.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("");
        let authority = self.uri.authority().map_or_else(told, |authority| authority.as_str());
        let bare = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(""),
            None => authority.split(':').next().unwrap_or(""),
        };
        bare.to_ascii_lowercase()
    }

    /// A body that is read as a whole while its request is parked. Reading the body of a client
    /// that waits for "100 Continue" would tell it to send before the game is asked.
    pub(crate) fn keeps_body(&self, bytes_max: usize) -> bool {
        !self.expects && self.body_bytes.is_some_and(|bytes| bytes <= bytes_max)
    }
}

/// A header's value as text, empty where it is missing or no text.
pub(crate) fn text(headers: &HeaderMap, name: impl AsHeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// All cookies of a request, as they were sent.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Walks the chain of proxies from the nearest to the first that is not believed.
fn client_behind(headers: &HeaderMap, trusted: &[Network], peer: IpAddr) -> IpAddr {
    let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let chain: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = peer;
    for hop in chain.into_iter().rev() {
        // An entry that is no address was not written by a proxy that is believed.
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        client = address;
        if !trusted.iter().any(|network| network.contains(address)) {
            break;
        }
    }
    client
}

/// For the fuzzer: a chain of which every second network is believed.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_forwarded(headers: &HeaderMap) {
    let trusted = ["0.0.0.0/1", "8000::/1"].map(|text| text.parse::<Network>().expect("a network"));
    client_behind(headers, &trusted, IpAddr::from([127, 0, 0, 1]));
}

/// A WebSocket handshake (RFC 6455, 4.1). Other upgrades (h2c) are not passed on: they would carry
/// requests past the gate.
fn is_websocket(parts: &Parts) -> bool {
    let connection =
        parts.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = connection.flat_map(|value| value.split(','));
    parts.method == Method::GET
        && text(&parts.headers, header::UPGRADE).trim().eq_ignore_ascii_case("websocket")
        && tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// True for a browser that shows a page. Scripts, images and API clients do not list HTML.
fn wants_html(headers: &HeaderMap) -> bool {
    let accept = text(headers, header::ACCEPT);
    let listed = accept.split(',').any(|part| {
        let kind = part.split(';').next().unwrap_or("").trim();
        kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
    });
    listed && !text(headers, X_REQUESTED_WITH).eq_ignore_ascii_case("xmlhttprequest")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_client_is_the_first_address_from_the_right_that_is_no_proxy_of_ours() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        let client = |chain| {
            client_behind(
                &headers(&[("x-forwarded-for", chain)]),
                &trusted,
                "10.0.0.1".parse().unwrap(),
            )
            .to_string()
        };
        assert_eq!(client("6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4");
        assert_eq!(client("10.0.0.9, 10.0.0.2"), "10.0.0.9");
        assert_eq!(client("1.2.3.4, evil, 10.0.0.2"), "10.0.0.2");
        assert_eq!(client(""), "10.0.0.1");
    }

    #[test]
    fn only_a_browser_that_shows_pages_wants_html() {
        let wants = |accept| wants_html(&headers(&[("accept", accept)]));
        assert!(wants("text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(wants("application/json, Text/HTML;q=0.9"));
        assert!(!wants("*/*") && !wants("application/json") && !wants("image/png,*/*"));
        assert!(!wants_html(&headers(&[
            ("accept", "text/html"),
            ("x-requested-with", "XMLHttpRequest")
        ])));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let headers = headers(&[("cookie", "a=1; PHPSESSID=xyz;b=2=3")]);
        let all: Vec<_> = cookies(&headers).collect();
        assert_eq!(all, [("a", "1"), ("PHPSESSID", "xyz"), ("b", "2=3")]);
    }
}
