//! Connections to the game, kept between requests.
//!
//! A connection has no task of its own: whoever has a request on it moves it along from the task
//! of the client ([`Leased::send`], [`Leased::poll_body`]), so an answer wakes one task and not
//! two. Where something must go on while nobody asks for the answer's next bytes (a WebSocket, a
//! body that is still being sent), the connection gets a task ([`Leased::run_apart`]).

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::body::Upload;
use crate::config::{GateConfig, Upstream};
use crate::timer::LazyTimer;

/// The pause between two attempts to find out whether a dead game is back.
const PROBE_PAUSE_MS: u64 = 1_000;
/// The longest head of an answer of the game.
const ANSWER_HEAD_BYTES_MAX: usize = 128 * 1024;

/// The idle connections, the last used one on top.
#[derive(Debug)]
pub(crate) struct Pool {
    upstream: Upstream,
    connect_ms: u64,
    shelf: Arc<Shelf>,
    /// Whether the last attempt to connect went well, and when it was made.
    last: Mutex<(bool, Instant)>,
}

#[derive(Debug)]
struct Shelf {
    max: usize,
    idle_ms: u64,
    /// Grows when the game may be another one than before.
    epoch: AtomicU64,
    idle: Mutex<Vec<(Instant, Leased)>>,
}

impl Shelf {
    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Leased)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Leased {
    sender: SendRequest<Upload>,
    line: Line,
    /// Kept from request to request: most of them end long before it fires.
    late: LazyTimer,
    epoch: u64,
    shelf: Arc<Shelf>,
}

/// What moves a connection along.
enum Line {
    Tcp(Box<Connection<TokioIo<TcpStream>, Upload>>),
    Unix(Box<Connection<TokioIo<UnixStream>, Upload>>),
    /// A task of its own; or it has ended.
    Apart,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_here() { "Here" } else { "Apart" })
    }
}

impl Line {
    fn is_here(&self) -> bool {
        !matches!(self, Self::Apart)
    }

    /// Reads and writes what can be. What goes wrong is told to the request that is on it.
    fn poll(&mut self, cx: &mut Context<'_>) {
        let polled = match self {
            Self::Tcp(connection) => Pin::new(connection).poll(cx),
            Self::Unix(connection) => Pin::new(connection).poll(cx),
            Self::Apart => return,
        };
        if polled.is_ready() {
            *self = Self::Apart;
        }
    }
}

/// Why a request got no answer on a connection.
pub(crate) enum NotSent {
    /// The game took too long.
    Late,
    /// The connection broke; the request is in it where nothing of it was sent.
    Broken(Box<TrySendError<Request<Upload>>>),
}

impl Leased {
    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
        limit: Duration,
    ) -> Result<Response<Incoming>, NotSent> {
        let mut sent = pin!(self.sender.try_send_request(request));
        let deadline = tokio::time::Instant::now() + limit;
        std::future::poll_fn(|cx| {
            let answered = if self.line.is_here() {
                // Only a poll of the connection can bring the answer, so its own waker is enough;
                // and the first poll, without one, mostly brings it.
                let mut quiet = Context::from_waker(Waker::noop());
                self.line.poll(&mut quiet);
                let mut answered = sent.as_mut().poll(&mut quiet);
                if answered.is_pending() {
                    self.line.poll(cx);
                    answered = sent.as_mut().poll(&mut quiet);
                }
                answered
            } else {
                sent.as_mut().poll(cx)
            };
            if let Poll::Ready(answered) = answered {
                return Poll::Ready(answered.map_err(|failed| NotSent::Broken(Box::new(failed))));
            }
            self.late.poll_until(deadline, cx).map(|()| Err(NotSent::Late))
        })
        .await
    }

    /// The next piece of the answer's body.
    pub(crate) fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.line.is_here() {
            return Pin::new(body).poll_frame(cx);
        }
        // As in `send`: the connection's waker is enough.
        let mut quiet = Context::from_waker(Waker::noop());
        let frame = Pin::new(&mut *body).poll_frame(&mut quiet);
        if frame.is_ready() {
            return frame;
        }
        self.line.poll(cx);
        Pin::new(body).poll_frame(&mut quiet)
    }

    /// Gives the connection a task of its own, which ends with it.
    pub(crate) fn run_apart(&mut self) {
        match std::mem::replace(&mut self.line, Line::Apart) {
            Line::Tcp(connection) => drop(tokio::spawn(connection.with_upgrades())),
            Line::Unix(connection) => drop(tokio::spawn(connection.with_upgrades())),
            Line::Apart => {}
        }
    }

    /// Brings the connection behind its last exchange. True where it can take a request. Nobody is
    /// woken by an idle connection; whether it still lives is seen here.
    fn is_idle(&mut self) -> bool {
        self.line.poll(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready()
    }

    /// Puts the connection back for the next request.
    pub(crate) fn give_back(mut self) {
        let shelf = Arc::clone(&self.shelf);
        if self.epoch != shelf.epoch.load(Ordering::Acquire) || !self.is_idle() {
            return;
        }
        let mut idle = shelf.idle();
        if idle.len() < shelf.max {
            idle.push((Instant::now(), self));
        }
    }
}

impl Pool {
    pub(crate) fn new(config: &GateConfig) -> Self {
        let limits = &config.limits;
        Self {
            upstream: config.upstream.clone(),
            connect_ms: limits.connect_ms,
            shelf: Arc::new(Shelf {
                max: limits.pool_idle_max,
                idle_ms: limits.pool_idle_ms,
                epoch: AtomicU64::new(0),
                idle: Mutex::new(Vec::new()),
            }),
            last: Mutex::new((true, Instant::now())),
        }
    }

    /// Forgets all connections. A process of the old version that still holds one would answer
    /// with the old version after the release.
    pub(crate) fn clear(&self) {
        self.shelf.epoch.fetch_add(1, Ordering::AcqRel);
        let old = std::mem::take(&mut *self.shelf.idle());
        drop(old);
    }

    /// Closes idle connections that were idle for too long, or that the game has closed.
    pub(crate) fn prune(&self) {
        let limit = Duration::from_millis(self.shelf.idle_ms);
        let mut gone = Vec::new();
        {
            let mut idle = self.shelf.idle();
            for (since, mut lease) in std::mem::take(&mut *idle) {
                if since.elapsed() <= limit && lease.is_idle() {
                    idle.push((since, lease));
                } else {
                    gone.push(lease);
                }
            }
        }
        drop(gone);
    }

    /// A connection that is still good, if there is one.
    pub(crate) fn reuse(&self) -> Option<Leased> {
        loop {
            let (since, mut lease) = self.shelf.idle().pop()?;
            if since.elapsed() > Duration::from_millis(self.shelf.idle_ms) {
                // Those below are older still.
                let old = std::mem::take(&mut *self.shelf.idle());
                drop(old);
                return None;
            }
            if lease.is_idle() {
                return Some(lease);
            }
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> io::Result<Leased> {
        let epoch = self.shelf.epoch.load(Ordering::Acquire);
        let attempt = async {
            io::Result::Ok(match &self.upstream {
                Upstream::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    let (sender, connection) = handshake(stream).await?;
                    (sender, Line::Tcp(Box::new(connection)))
                }
                Upstream::Unix(path) => {
                    let (sender, connection) = handshake(UnixStream::connect(path).await?).await?;
                    (sender, Line::Unix(Box::new(connection)))
                }
            })
        };
        let limit = Duration::from_millis(self.connect_ms);
        let tried =
            timeout(limit, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.note(tried.is_ok());
        let (sender, line) = tried?;
        Ok(Leased {
            sender,
            line,
            late: LazyTimer::default(),
            epoch,
            shelf: Arc::clone(&self.shelf),
        })
    }

    /// True where the game accepts a connection.
    pub(crate) async fn is_reachable(&self) -> bool {
        let attempt = async {
            match &self.upstream {
                Upstream::Tcp { host, port } => {
                    TcpStream::connect((host.as_str(), *port)).await.map(drop)
                }
                Upstream::Unix(path) => UnixStream::connect(path).await.map(drop),
            }
        };
        let reached =
            matches!(timeout(Duration::from_millis(self.connect_ms), attempt).await, Ok(Ok(())));
        self.note(reached);
        reached
    }

    fn note(&self, reached: bool) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (reached, Instant::now());
    }

    /// What the last attempt told, without a new one.
    pub(crate) fn last_reached(&self) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What the last attempt told; after a bad one, at most one new attempt a second.
    pub(crate) async fn seems_reachable(&self) -> bool {
        let (reached, at) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if reached || at.elapsed() < Duration::from_millis(PROBE_PAUSE_MS) {
            return reached;
        }
        self.is_reachable().await
    }
}

async fn handshake<T>(
    stream: T,
) -> io::Result<(SendRequest<Upload>, Connection<TokioIo<T>, Upload>)>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(ANSWER_HEAD_BYTES_MAX);
    builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
}
