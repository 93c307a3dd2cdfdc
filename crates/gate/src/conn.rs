//! What one client's connection is doing, and since when: the ground for its time limits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::Limits;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// A connection's clock. hyper's own head time-out also ends idle connections, so the three
/// states are told apart here.
#[derive(Debug)]
pub(crate) struct ConnClock {
    start: Instant,
    stage: AtomicU8,
    /// Milliseconds from `start` to the beginning of the stage.
    since_ms: AtomicU64,
    /// Milliseconds from `start` to the moment the client stopped taking bytes, plus one; 0: it takes them.
    blocked_ms: AtomicU64,
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing was asked for a while: end politely.
    Idle,
    /// The head did not arrive, or the answer is not taken: cut.
    Stalled,
}

impl ConnClock {
    /// A new connection owes a head.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            stage: AtomicU8::new(HEAD),
            since_ms: AtomicU64::new(0),
            blocked_ms: AtomicU64::new(0),
        })
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, stage: u8) {
        self.since_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        self.stage.store(stage, Ordering::Release);
    }

    /// A request's head is complete. The mark ends with its answer.
    pub(crate) fn busy(self: &Arc<Self>) -> BusyMark {
        self.enter(BUSY);
        BusyMark(Arc::clone(self))
    }

    fn read_some(&self) {
        if self.stage.load(Ordering::Acquire) == IDLE {
            self.enter(HEAD);
        }
    }

    fn wrote(&self, blocked: bool) {
        let since = if blocked { self.elapsed_ms() + 1 } else { 0 };
        if !blocked || self.blocked_ms.load(Ordering::Relaxed) == 0 {
            self.blocked_ms.store(since, Ordering::Relaxed);
        }
    }

    /// Whether the connection has used up its time, else when to look again.
    pub(crate) fn check(&self, limits: &Limits, fenced: bool) -> Result<Duration, Over> {
        let now = self.elapsed_ms();
        let blocked = self.blocked_ms.load(Ordering::Relaxed);
        let stalled = (blocked > 0).then(|| (limits.write_idle_ms + blocked, Over::Stalled));
        let since = self.since_ms.load(Ordering::Relaxed);
        let idle_ms = if fenced { limits.keep_alive_closed_ms } else { limits.keep_alive_ms };
        let staged = match self.stage.load(Ordering::Acquire) {
            IDLE if blocked == 0 => Some((since + idle_ms, Over::Idle)),
            HEAD => Some((since + limits.header_ms, Over::Stalled)),
            _ => None,
        };
        let first = [stalled, staged].into_iter().flatten().min_by_key(|(at, _)| *at);
        // Looked at again after the shortest limit at the latest: the phase may change meanwhile.
        let soon = limits.keep_alive_closed_ms.clamp(50, 5_000);
        match first {
            Some((at, over)) if at <= now => Err(over),
            Some((at, _)) => Ok(Duration::from_millis((at - now).clamp(1, soon))),
            None => Ok(Duration::from_millis(soon)),
        }
    }
}

/// A request is being answered. Dropping it makes the connection idle.
#[derive(Debug)]
pub(crate) struct BusyMark(Arc<ConnClock>);

impl Drop for BusyMark {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// A connection that tells its clock what passes.
#[derive(Debug)]
pub(crate) struct Clocked<T> {
    io: T,
    clock: Arc<ConnClock>,
}

impl<T> Clocked<T> {
    pub(crate) fn new(io: T, clock: Arc<ConnClock>) -> Self {
        Self { io, clock }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Clocked<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.clock.read_some();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Clocked<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.clock.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.clock.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            header_ms: 0,
            keep_alive_ms: 1_000_000,
            keep_alive_closed_ms: 0,
            ..Limits::default()
        }
    }

    #[test]
    fn a_head_that_is_owed_an_idle_connection_and_a_busy_one_have_their_own_limits() {
        let clock = ConnClock::new();
        assert_eq!(clock.check(&limits(), false), Err(Over::Stalled));
        let mark = clock.busy();
        assert!(clock.check(&limits(), true).is_ok());
        drop(mark);
        assert!(clock.check(&limits(), false).is_ok());
        assert_eq!(clock.check(&limits(), true), Err(Over::Idle));
        clock.read_some();
        assert_eq!(clock.check(&limits(), false), Err(Over::Stalled));
    }

    #[test]
    fn a_client_that_takes_no_bytes_is_cut() {
        let clock = ConnClock::new();
        let _mark = clock.busy();
        let limits = Limits { write_idle_ms: 0, ..limits() };
        clock.wrote(true);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.check(&limits, false), Err(Over::Stalled));
        clock.wrote(false);
        assert!(clock.check(&limits, false).is_ok());
    }
}
