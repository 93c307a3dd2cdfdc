//! Players' connections: accepting, serving, ending.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entracte_model::gate::PageKind;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::body::{Answer, Upload};
use crate::conn::{Clocked, ConnClock, Over};
use crate::core::{Core, Entry, now};
use crate::own;
use crate::pages;
use crate::proxy::{self, Errand, Waited};
use crate::who::{PLACE_COOKIE, Who};

/// The pause after an error of accepting, such as too many open files.
const ACCEPT_PAUSE_MS: u64 = 50;
/// The buffer of one connection; heads are bounded by their own limit.
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves players until `core.stop`, then lets what goes on finish within `shutdown_ms`.
pub(crate) async fn serve(core: Arc<Core>, listener: TcpListener) {
    let room =
        Arc::new(Semaphore::new(core.config.limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut stop = core.stop.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Closed never: the semaphore lives in this function.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let core = Arc::clone(&core);
                connections.spawn(async move {
                    let _permit = permit;
                    connection(core, stream, peer).await;
                });
            }
            Err(error) if is_about_one_client(&error) => {}
            Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is not done by then is cut when the set is dropped.
    let _ = timeout(Duration::from_millis(core.config.limits.shutdown_ms), all).await;
}

fn is_about_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection(core: Arc<Core>, stream: TcpStream, peer: SocketAddr) {
    // Without it small answers wait for the client's acknowledgement; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let clock = ConnClock::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (core, mark) = (Arc::clone(&core), clock.busy());
        async move {
            let response = Box::pin(answer(core, peer.ip().to_canonical(), request)).await;
            Ok::<_, Infallible>(response.map(|body| body.marked(mark)))
        }
    });
    let limits = &core.config.limits;
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Clocked::new(stream, Arc::clone(&clock))), service)
        .with_upgrades();
    let mut served = pin!(served);
    let mut stop = core.stop.subscribe();
    let mut stopping = false;
    let mut pause = Duration::from_millis(limits.header_ms.max(1));
    loop {
        tokio::select! {
            // Errors here are the client's: it broke off, or sent what is no HTTP.
            _ = served.as_mut() => return,
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
            () = sleep(pause) => match clock.check(limits, core.phase().is_fenced()) {
                Ok(again) => pause = again,
                Err(Over::Idle) => {
                    served.as_mut().graceful_shutdown();
                    pause = Duration::from_millis(limits.keep_alive_closed_ms.max(1_000));
                }
                Err(Over::Stalled) => return,
            },
        }
    }
}

/// Answers one request, whatever it is.
async fn answer(core: Arc<Core>, peer: IpAddr, mut request: Request<Incoming>) -> Response<Answer> {
    let began = Instant::now();
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    if let Some(refusal) = refusal(&parts) {
        return refusal;
    }
    let who = Who::of(&core, &parts, &body, peer, now());
    let logged = core.log.as_ref().map(|log| log.begin(&who, &parts));
    let response = meet(&core, peer, who, parts, body, upgrade).await;
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
    if parts.headers.get_all(hyper::header::HOST).iter().nth(1).is_some() {
        return Some(pages::plain(StatusCode::BAD_REQUEST, "more than one Host field"));
    }
    if parts.version == hyper::Version::HTTP_11 && !parts.headers.contains_key(hyper::header::HOST)
    {
        return Some(pages::plain(StatusCode::BAD_REQUEST, "no Host field"));
    }
    None
}

async fn meet(
    core: &Arc<Core>,
    peer: IpAddr,
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
            proxy::forward(core, Errand { who, peer, parts, upload, upgrade, guard, ticket }).await
        }
        Entry::Park(parked) => match proxy::wait(core, &who, parked, body).await {
            Waited::Released(guard, first, rest) => {
                let upload = Upload::new(first, rest, idle_ms);
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
                response.headers_mut().append(hyper::header::SET_COOKIE, value);
            }
            response
        }
    }
}
