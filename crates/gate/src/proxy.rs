//! One request to the game and its answer back: connecting, retrying, passing on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use entracte_model::gate::PageKind;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::time::{sleep, timeout};

use crate::body::{Answer, Events, Patience, Relay, Upload, UploadFate};
use crate::core::{Core, Parked};
use crate::headers;
use crate::in_flight::InFlight;
use crate::inject::Injector;
use crate::pages;
use crate::pool::{Leased, NotSent};
use crate::server::Peer;
use crate::tokens::{TICKET_RENEWED_MS, jitter01, random};
use crate::tunnel;
use crate::who::{TICKET_COOKIE, Who, text};

/// How often one request is handed to a connection before it is given up.
const SENDS_MAX: usize = 4;

/// A client's request on its way to the game.
pub(crate) struct Errand {
    pub(crate) who: Who,
    pub(crate) peer: Peer,
    pub(crate) parts: Parts,
    pub(crate) upload: Upload,
    /// The client's side of a WebSocket to be.
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) guard: InFlight,
    /// A ticket may be given with the answer.
    pub(crate) ticket: bool,
}

/// Why the game gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoAnswer {
    /// It accepts no connection.
    Refused,
    /// It broke the connection off, or answered nonsense.
    BrokeOff,
    /// It took too long.
    Late,
    /// The gate closed before the request was sent.
    Fenced,
    /// The client's own body stopped.
    Client,
}

/// Sends the request to the game and gives the client's answer, whatever happens.
pub(crate) async fn forward(core: &Arc<Core>, mut errand: Errand) -> Response<Answer> {
    let fate = errand.upload.fate();
    match send(core, &mut errand).await {
        Ok((response, lease)) => {
            errand.guard.answered(response.status().as_u16());
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                switch(core, errand, response)
            } else {
                relay(core, errand, response, lease, fate)
            }
        }
        Err(NoAnswer::Fenced) => {
            errand.guard.turned_away();
            pages::page(core, PageKind::Closed, &errand.who, None)
        }
        Err(NoAnswer::Client) => {
            pages::plain(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive")
        }
        Err(NoAnswer::Refused | NoAnswer::BrokeOff) => {
            errand.guard.unreachable();
            pages::fault(core, StatusCode::BAD_GATEWAY, &errand.who)
        }
        Err(NoAnswer::Late) => {
            errand.guard.unreachable();
            pages::fault(core, StatusCode::GATEWAY_TIMEOUT, &errand.who)
        }
    }
}

async fn send(
    core: &Arc<Core>,
    errand: &mut Errand,
) -> Result<(Response<Incoming>, Leased), NoAnswer> {
    let believed = core.parsed.trusted.iter().any(|network| network.contains(errand.peer.ip));
    let fields = headers::for_game(&mut errand.parts, &errand.who, &errand.peer, believed);
    let mut upload = std::mem::replace(&mut errand.upload, Upload::empty());
    let fate = upload.fate();
    let idempotent = matches!(errand.parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let may_repeat = idempotent && upload.is_end_stream() && !errand.who.is_upgrade;
    // For the case that it has to be asked again.
    let mut copy = may_repeat.then(|| fields.clone());
    let mut fields = fields;
    let mut fresh = errand.who.is_upgrade;
    let answer_limit = Duration::from_millis(core.config.limits.answer_ms);
    for _ in 0..SENDS_MAX {
        let pooled = if fresh { None } else { core.pool.reuse() };
        let mut lease = match pooled {
            Some(lease) => lease,
            None => connect(core, errand).await?,
        };
        if errand.who.is_upgrade {
            // What comes after the answer's head is the tunnel's.
            lease.run_apart();
        }
        let request = for_game(&errand.parts, fields, upload);
        let mut failed = match lease.send(request, answer_limit).await {
            Ok(response) => return Ok((response, lease)),
            Err(NotSent::Late) => return Err(NoAnswer::Late),
            Err(NotSent::Broken(failed)) => failed,
        };
        fresh = true;
        match (failed.take_message(), copy.take()) {
            // Given back unsent: any method may go again.
            (Some(unsent), kept) => {
                copy = kept;
                let (parts, body) = unsent.into_parts();
                (fields, upload) = (parts.headers, body);
            }
            (None, _) if fate.is_failed() => return Err(NoAnswer::Client),
            // Sent, and nothing came back. Only what changes nothing may be asked twice.
            (None, Some(kept)) if !failed.error().is_parse() => {
                (fields, upload) = (kept, Upload::empty());
            }
            (None, _) => return Err(NoAnswer::BrokeOff),
        }
        errand.guard.retried();
    }
    Err(NoAnswer::BrokeOff)
}

fn for_game(parts: &Parts, fields: HeaderMap, upload: Upload) -> Request<Upload> {
    let mut request = Request::new(upload);
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_11;
    // The game gets origin form; an absolute target went into its Host field.
    if parts.uri.scheme().is_none() && parts.uri.authority().is_none() {
        *request.uri_mut() = parts.uri.clone();
    } else {
        let mut target = hyper::http::uri::Parts::default();
        target.path_and_query = parts.uri.path_and_query().cloned();
        if let Ok(uri) = target.try_into() {
            *request.uri_mut() = uri;
        }
    }
    *request.headers_mut() = fields;
    request
}

/// A new connection, tried for a while: a game that restarts refuses connections for seconds, and
/// nothing of the request was sent yet.
async fn connect(core: &Core, errand: &Errand) -> Result<Leased, NoAnswer> {
    let limits = &core.config.limits;
    if let Ok(lease) = core.pool.connect().await {
        return Ok(lease);
    }
    let Ok(_place) = core.connect_waiting.try_acquire() else { return Err(NoAnswer::Refused) };
    let deadline = Instant::now() + Duration::from_millis(limits.connect_retry_ms);
    let mut phase = core.phase.subscribe();
    while Instant::now() < deadline {
        let pause_ms = limits.connect_retry_pause_ms;
        let pause = Duration::from_millis(pause_ms).mul_f64(0.5 + jitter01());
        let fenced = async {
            if phase.wait_for(|phase| phase.is_fenced()).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = fenced, if !errand.guard.is_tester() => return Err(NoAnswer::Fenced),
        }
        errand.guard.retried();
        if let Ok(lease) = core.pool.connect().await {
            return Ok(lease);
        }
    }
    Err(NoAnswer::Refused)
}

fn relay(
    core: &Arc<Core>,
    errand: Errand,
    response: Response<Incoming>,
    mut lease: Leased,
    fate: Arc<UploadFate>,
) -> Response<Answer> {
    if !fate.is_finished() {
        // The rest of the client's body must go on even while the client reads nothing.
        lease.run_apart();
    }
    let (mut head, body) = response.into_parts();
    headers::remove_hop_by_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    let kind = text(&head.headers, header::CONTENT_TYPE);
    let (is_html, is_events) = (begins(kind, "text/html"), begins(kind, "text/event-stream"));
    learn_sessions(core, &errand, &head);
    if errand.ticket && !errand.guard.is_tester() {
        give_ticket(core, &errand, &mut head, is_html);
    }
    let injector = (core.config.inject_widget
        && is_html
        && can_inject(&errand.parts.method, &head))
    .then(|| {
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::ETAG);
        head.headers.remove(header::ACCEPT_RANGES);
        Injector::default()
    });
    let may_end = is_events && !errand.guard.is_tester();
    let relay = Relay {
        body,
        guard: Some(errand.guard),
        lease: Some((lease, fate)),
        patience: (!is_events).then(|| Patience::new(core.config.limits.answer_idle_ms)),
        injector,
        events: may_end.then(|| Events::new(core.phase.subscribe())),
        broken: None,
    };
    Response::from_parts(head, Answer::relay(relay))
}

fn begins(found: &str, wanted: &str) -> bool {
    let begin = found.as_bytes().get(..wanted.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Only a whole, plain page can be changed in passing.
fn can_inject(method: &Method, head: &response::Parts) -> bool {
    method != Method::HEAD
        && head.status == StatusCode::OK
        && !head.headers.contains_key(header::CONTENT_ENCODING)
        && !text(&head.headers, header::CACHE_CONTROL).contains("no-transform")
}

/// A session that the game gives to a player who is in, or who just logged in, is in, too. Others
/// become known with their next request: most of them are robots that never come back.
fn learn_sessions(core: &Core, errand: &Errand, head: &response::Parts) {
    let logged_in = errand.ticket && errand.guard.is_login && head.status.as_u16() < 400;
    if errand.guard.is_tester() || !(errand.guard.was_in || logged_in) {
        return;
    }
    let set =
        head.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = set.filter_map(|cookie| cookie.split(';').next()?.trim().split_once('='));
    for (name, value) in pairs.take(16) {
        let is_session = core.config.session_cookies.iter().any(|known| known == name);
        if is_session && !value.is_empty() && value != "deleted" {
            core.learn(core.keys.session(name, value));
        }
    }
}

/// A ticket goes to whoever looks at a page or logs in, while anybody may come in.
fn give_ticket(core: &Core, errand: &Errand, head: &mut response::Parts, is_html: bool) {
    let held = errand.who.ticket;
    let at = core.clock.now();
    let stale = held.is_none_or(|ticket| at.since(ticket.issued) > TICKET_RENEWED_MS);
    let worth = head.status.as_u16() < 500 && (is_html || errand.guard.is_login);
    // A shared cache would hand one player's ticket to all.
    let shared = text(&head.headers, header::CACHE_CONTROL).contains("public");
    if !stale || !worth || shared {
        return;
    }
    let id = match held {
        Some(ticket) => ticket.id,
        None => match random::<16>() {
            Ok(id) => id,
            // Without randomness nobody gets a ticket; the game's own cookie still counts.
            Err(_) => return,
        },
    };
    let token = core.keys.ticket(id, at);
    let secure = if errand.who.secure { "; Secure" } else { "" };
    let cookie =
        format!("{TICKET_COOKIE}={token}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        head.headers.append(header::SET_COOKIE, value);
    }
}

/// The game agreed to a WebSocket: both sides become a tunnel.
fn switch(
    core: &Arc<Core>,
    mut errand: Errand,
    mut response: Response<Incoming>,
) -> Response<Answer> {
    let Some(client) = errand.upgrade.take().filter(|_| errand.who.is_upgrade) else {
        // Switching protocols unasked breaks HTTP.
        return pages::fault(core, StatusCode::BAD_GATEWAY, &errand.who);
    };
    let game = hyper::upgrade::on(&mut response);
    errand.guard.tunnel();
    tokio::spawn(tunnel::run(Arc::clone(core), client, game, errand.guard));
    let (mut head, _) = response.into_parts();
    headers::remove_hop_by_hop(&mut head.headers);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Response::from_parts(head, Answer::empty())
}

/// What became of a parked request.
pub(crate) enum Waited {
    /// It may go on, with what was read of its body.
    Released(InFlight, VecDeque<Bytes>, Option<Incoming>),
    /// It waited long enough, or the gate closed.
    TurnedAway(Option<Incoming>),
    /// The client left.
    Left,
}

/// Waits for the release. The beginning of the body is read meanwhile: that is how a client that
/// leaves in the middle of sending is noticed.
pub(crate) async fn wait(core: &Core, who: &Who, mut parked: Parked, body: Incoming) -> Waited {
    let limits = &core.config.limits;
    let over = sleep(Duration::from_millis(limits.parked_wait_ms));
    tokio::pin!(over);
    let mut room = if who.expects { 0 } else { limits.parked_body_bytes_max };
    let mut rest = Some(body);
    let mut first = VecDeque::new();
    loop {
        // Without this, a client without a body would be asked for one again and again.
        let reading = room > 0 && rest.as_ref().is_some_and(|body| !body.is_end_stream());
        tokio::select! {
            released = &mut parked.released => return match released {
                Ok(mut guard) => {
                    guard.claim(who);
                    Waited::Released(guard, first, rest)
                }
                Err(_) => Waited::TurnedAway(rest),
            },
            () = &mut over => return Waited::TurnedAway(rest),
            frame = next_frame(&mut rest), if reading => match frame {
                Some(Ok(frame)) => {
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    // One frame more than the limit at most, and that is a read of the socket.
                    room = room.saturating_sub(read);
                    first.extend(frame.into_data());
                }
                Some(Err(_)) => return Waited::Left,
                None => rest = None,
            },
        }
    }
}

async fn next_frame(
    body: &mut Option<Incoming>,
) -> Option<Result<hyper::body::Frame<Bytes>, hyper::Error>> {
    body.as_mut()?.frame().await
}

/// Reads and throws away what a refused client still sends, within bounds. Closing with unread
/// bytes would reset the connection, and the client would not hear why.
pub(crate) async fn discard(core: &Core, parts: &Parts, mut body: Incoming) {
    // Reading would tell a client that waits for "100 Continue" to send.
    if body.is_end_stream() || parts.headers.contains_key(header::EXPECT) {
        return;
    }
    let limits = &core.config.limits;
    let drained = async {
        let mut left = limits.discard_bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_millis(limits.discard_ms), drained).await;
}
