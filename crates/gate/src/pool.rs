//! Connections to the game, kept between requests.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::body::Upload;
use crate::config::{GateConfig, Upstream};

/// How long a connection may take to get ready again after its last answer.
const READY_MS: u64 = 50;
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

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) sender: SendRequest<Upload>,
    epoch: u64,
    shelf: Arc<Shelf>,
}

impl Leased {
    /// Puts the connection back for the next request.
    pub(crate) fn give_back(self) {
        let shelf = Arc::clone(&self.shelf);
        if self.sender.is_closed() || self.epoch != shelf.epoch.load(Ordering::Acquire) {
            return;
        }
        let mut idle = shelf.idle.lock().unwrap_or_else(PoisonError::into_inner);
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
        let old =
            std::mem::take(&mut *self.shelf.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(old);
    }

    /// A connection that is still good, if there is one.
    pub(crate) async fn reuse(&self) -> Option<Leased> {
        loop {
            let (since, mut lease) =
                self.shelf.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() > Duration::from_millis(self.shelf.idle_ms) {
                // Those below are older still.
                self.shelf.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return None;
            }
            if lease.sender.is_ready() {
                return Some(lease);
            }
            let ready = timeout(Duration::from_millis(READY_MS), lease.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Some(lease);
            }
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> io::Result<Leased> {
        let epoch = self.shelf.epoch.load(Ordering::Acquire);
        let attempt = async {
            match &self.upstream {
                Upstream::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    handshake(stream).await
                }
                Upstream::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            }
        };
        let limit = Duration::from_millis(self.connect_ms);
        let tried =
            timeout(limit, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.note(tried.is_ok());
        let sender = tried?;
        Ok(Leased { sender, epoch, shelf: Arc::clone(&self.shelf) })
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

async fn handshake<T>(stream: T) -> io::Result<SendRequest<Upload>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(ANSWER_HEAD_BYTES_MAX);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // The task ends with the connection; what went wrong is told to the request that was on it.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}
