//! Players' connections: accepting, serving, ending.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use entracte_model::gate::PageKind;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::body::{Answer, Upload};
use crate::conn::{Clocked, ConnClock, Over};
use crate::core::{Core, Entry, files_limit};
use crate::crowd::Crowd;
use crate::own;
use crate::pages;
use crate::proxy::{self, Errand, Waited};
use crate::who::{CookieMemo, PLACE_COOKIE, Who};

/// The pause after an error of accepting, such as too many open files.
const ACCEPT_PAUSE_MS: u64 = 50;
/// How often a gate that has handed over looks whether its last WebSocket has ended.
const TUNNELS_MS: u64 = 200;
/// The buffer of one connection; heads are bounded by their own limit.
const BUFFER_BYTES: usize = 64 * 1024;
/// How an HTTP/2 connection begins where nothing was negotiated (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What one HTTP/2 connection may have under way towards a slow client, in bytes a stream.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// Its address as a header's value.
    pub(crate) text: HeaderValue,
    /// The client speaks TLS to the gate itself.
    pub(crate) tls: bool,
}

impl Peer {
    fn new(ip: IpAddr, tls: bool) -> Self {
        let text = HeaderValue::try_from(ip.to_string()).expect("an address is plain text");
        Self { ip, text, tls }
    }
}

/// Serves players until the gate stops or hands its listener over, then lets what goes on finish.
pub(crate) async fn serve(core: Arc<Core>, listener: TcpListener) {
    // What is passed on has a second file.
    let files = files_limit();
    let mut crowd = Crowd::new(core.config.limits.connections_max.min(files - files / 4));
    let (mut stop, mut retired) = (core.stop.subscribe(), core.retired.subscribe());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            _ = retired.wait_for(|retired| *retired) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Who is through the door is served, also where the door is somebody else's next.
                let place = tokio::select! {
                    place = crowd.place() => place,
                    _ = stop.wait_for(|stop| *stop) => None,
                    _ = retired.wait_for(|retired| *retired) => None,
                };
                let (core, clock) = (Arc::clone(&core), ConnClock::new(false));
                crowd.add(Arc::clone(&clock), async move {
                    let _place = place;
                    connection(core, clock, stream, peer).await;
                });
            }
            Err(error) if is_about_one_client(&error) => {}
            Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
        }
    }
    drop(listener);
    // The door is shut only when its last copy is.
    drop(core.take_heirlooms());
    let mut has_elder = core.has_elder.subscribe();
    let all = async {
        crowd.all_ended().await;
        if *core.retired.borrow() {
            // What a still older gate has in the game is known through this one only.
            let _ = has_elder.wait_for(|has_elder| !has_elder).await;
            // WebSockets go on apart from the connections that they came on.
            while core.as_elder(0).in_flight > 0 && !*core.stop.borrow() {
                sleep(Duration::from_millis(TUNNELS_MS)).await;
            }
        }
    };
    let mut all = pin!(all);
    if !*core.stop.borrow() {
        // The successor has the door; those who came through this one are served to their end.
        let limit = Duration::from_millis(core.config.limits.upgrade_drain_ms);
        tokio::select! {
            () = all.as_mut() => {}
            () = sleep(limit) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        core.stop.send_replace(true);
    }
    // What is not done by then is cut when the set is dropped.
    let _ = timeout(Duration::from_millis(core.config.limits.shutdown_ms), all).await;
}

fn is_about_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection(core: Arc<Core>, clock: Arc<ConnClock>, stream: TcpStream, peer: SocketAddr) {
    // Without it small answers wait for the client's acknowledgement; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let _counted = Counted::new(&core);
    let ip = peer.ip().to_canonical();
    let limit = Duration::from_millis(core.config.limits.header_ms);
    if let Some(tls) = &core.tls {
        let handshake = Box::pin(TlsAcceptor::from(tls.config()).accept(stream));
        // Whoever does not finish it speaks no TLS, and would not understand an answer.
        let Ok(Ok(stream)) = timeout(limit, handshake).await else { return };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let peer = Peer::new(ip, true);
        clock.greeted(is_h2);
        return Box::pin(talk(Arc::clone(&core), clock, stream, Vec::new(), peer)).await;
    }
    let Ok(Ok(first)) = timeout(limit, first_bytes(&stream)).await else { return };
    clock.greeted(first.starts_with(PREFACE));
    talk(Arc::clone(&core), clock, stream, first, Peer::new(ip, false)).await;
}

/// One connection more, until dropped.
struct Counted<'a>(&'a Core);

impl<'a> Counted<'a> {
    fn new(core: &'a Core) -> Self {
        core.connections.fetch_add(1, Ordering::Relaxed);
        Self(core)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads until it is known whether the client speaks HTTP/2 without having asked.
async fn first_bytes(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    loop {
        stream.readable().await?;
        let mut buffer = [0; 2_048];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => first.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if first.len() >= PREFACE.len() || !PREFACE.starts_with(&first) {
            return Ok(first);
        }
    }
}

async fn talk<T>(core: Arc<Core>, clock: Arc<ConnClock>, stream: T, first: Vec<u8>, peer: Peer)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &core.config.limits;
    let io = TokioIo::new(Clocked::new(stream, Arc::clone(&clock), first, limits));
    let service = service(&core, &clock, peer);
    if clock.is_h2() {
        let served = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BYTES_MAX)
            .serve_connection(io, service);
        drive(&core, &clock, served).await;
    } else {
        let served = http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes_max)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(io, service)
            .with_upgrades();
        drive(&core, &clock, served).await;
    }
}

/// What all requests of a connection share.
struct Here {
    core: Arc<Core>,
    peer: Peer,
    memo: CookieMemo,
}

fn service(
    core: &Arc<Core>,
    clock: &Arc<ConnClock>,
    peer: Peer,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let (core, clock) = (Arc::clone(core), Arc::clone(clock));
    let here = Arc::new(Here { core, peer, memo: CookieMemo::default() });
    service_fn(move |request: Request<Incoming>| {
        let (here, clock, mark) = (Arc::clone(&here), Arc::clone(&clock), clock.busy());
        async move {
            let is_h1 = request.version() != Version::HTTP_2;
            let mut response = Box::pin(answer(&here, request)).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                clock.became_raw();
            } else if is_h1 && *here.core.retired.borrow() {
                // The client comes back through the door, which is the successor's.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| body.marked(mark)))
        }
    })
}

/// A connection that can be asked to end after what is under way.
trait Graceful: Future {
    fn end(self: Pin<&mut Self>);
    /// The client can be told to take its next requests elsewhere without losing one.
    const SAYS_GOODBYE: bool;
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    Self: Future,
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const SAYS_GOODBYE: bool = false;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for http2::Connection<I, S, TokioExecutor>
where
    Self: Future,
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: hyper::body::Body + Send + 'static,
    <S::ResBody as hyper::body::Body>::Data: Send,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    const SAYS_GOODBYE: bool = true;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// What makes the task of a connection look up.
enum Event {
    /// The connection has ended.
    Ended,
    /// The gate stops, or another one has the door.
    Told,
    /// It is time to look at the clock.
    Look,
}

/// Runs one connection to its end, by itself, by its clock, or by the gate's.
async fn drive<C: Graceful>(core: &Core, clock: &ConnClock, served: C) {
    let limits = &core.config.limits;
    let mut served = pin!(served);
    let (mut stopping, mut ending) = (false, false);
    let pause = Duration::from_millis(limits.header_ms.min(limits.keep_alive_closed_ms).max(1));
    let mut look = pin!(sleep(pause));
    let (mut stop, mut retired) = (core.stop.subscribe(), core.retired.subscribe());
    let (stop_said, retired_said) = (stop.clone(), retired.clone());
    let mut told = pin!(async move {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            _ = retired.wait_for(|retired| *retired), if C::SAYS_GOODBYE => {}
        }
    });
    // Most wake-ups are the connection's own. The others were given this task's waker once, and
    // are asked again only when they have something to say.
    let mut watched = false;
    loop {
        let event = poll_fn(|cx| {
            if served.as_mut().poll(cx).is_ready() {
                // Errors here are the client's: it broke off, or sent what is no HTTP.
                return Poll::Ready(Event::Ended);
            }
            let said = |said: &watch::Receiver<bool>| said.has_changed().unwrap_or(true);
            if !stopping
                && (!watched || said(&stop_said) || said(&retired_said))
                && told.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Event::Told);
            }
            if (!watched || look.is_elapsed()) && look.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Look);
            }
            // Without budget they were not asked, and know no waker yet.
            watched |= has_budget_remaining();
            Poll::Pending
        });
        let again = match event.await {
            Event::Ended => return,
            Event::Told => {
                stopping = true;
                served.as_mut().end();
                continue;
            }
            Event::Look => match clock.check(limits, core.phase().is_fenced()) {
                Ok(again) => again,
                Err(Over::Idle) if !ending => {
                    ending = true;
                    served.as_mut().end();
                    Duration::from_millis(limits.keep_alive_closed_ms.max(1_000))
                }
                Err(Over::Idle | Over::Stalled) => return,
            },
        };
        look.as_mut().reset(tokio::time::Instant::now() + again);
        watched = false;
    }
}

/// Answers one request, whatever it is.
async fn answer(here: &Here, mut request: Request<Incoming>) -> Response<Answer> {
    let Here { core, peer, memo } = here;
    let began = Instant::now();
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    if let Some(refusal) = refusal(&parts) {
        return refusal;
    }
    let who = Who::of(core, &parts, &body, peer, memo, core.clock.now());
    let logged = core.log.as_ref().map(|log| log.begin(&who, &parts));
    let response = meet(core, peer, who, parts, body, upgrade).await;
    if let (Some(log), Some(line)) = (&core.log, logged) {
        log.end(line, &response, began);
    }
    response
}

/// What no gate passes on: requests whose target or host can be read in two ways.
fn refusal(parts: &hyper::http::request::Parts) -> Option<Response<Answer>> {
    if parts.method == Method::CONNECT {
        return Some(pages::plain(StatusCode::METHOD_NOT_ALLOWED, "this is no forward proxy"));
    }
    let host = parts.headers.get(header::HOST);
    if host.is_some() && parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Some(pages::plain(StatusCode::BAD_REQUEST, "more than one Host field"));
    }
    match (parts.version, parts.uri.authority(), host) {
        (Version::HTTP_11, _, None) | (Version::HTTP_2, None, None) => {
            Some(pages::plain(StatusCode::BAD_REQUEST, "no Host field"))
        }
        (Version::HTTP_2, Some(asked), Some(host))
            if !asked.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Some(pages::plain(StatusCode::BAD_REQUEST, "two different hosts"))
        }
        _ => None,
    }
}

async fn meet(
    core: &Arc<Core>,
    peer: &Peer,
    who: Who,
    parts: hyper::http::request::Parts,
    body: Incoming,
    upgrade: Option<OnUpgrade>,
) -> Response<Answer> {
    let idle_ms = core.config.limits.body_idle_ms;
    match core.enter(&who) {
        Entry::Own => own::answer(core, &who, parts, body).await,
        Entry::Healthy => pages::plain(StatusCode::OK, "ok"),
        Entry::Pass { guard, ticket } => {
            let upload = Upload::new([].into(), Some(body), idle_ms);
            let peer = peer.clone();
            proxy::forward(core, Errand { who, peer, parts, upload, upgrade, guard, ticket }).await
        }
        Entry::Park(parked) => match proxy::wait(core, &who, parked, body).await {
            Waited::Released(guard, first, rest) => {
                let upload = Upload::new(first, rest, idle_ms);
                let peer = peer.clone();
                proxy::forward(
                    core,
                    Errand { who, peer, parts, upload, upgrade, guard, ticket: true },
                )
                .await
            }
            Waited::TurnedAway(rest) => {
                core.count(|bin| bin.gate_answers += 1);
                if let Some(rest) = rest {
                    proxy::discard(core, &parts, rest).await;
                }
                pages::page(core, PageKind::Closed, &who, None)
            }
            Waited::Left => {
                core.count(|bin| bin.abandoned += 1);
                pages::plain(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive")
            }
        },
        Entry::Page(kind, place) => {
            proxy::discard(core, &parts, body).await;
            let mut response = pages::page(core, kind, &who, place);
            let token = place.map(|place| core.keys.place(place));
            let cookie = token
                .map(|token| format!("{PLACE_COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax"));
            if let Some(value) = cookie.and_then(|cookie| cookie.parse().ok()) {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
            response
        }
    }
}
