//! What one client's connection is doing, and since when: the ground for its time limits.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::Limits;
use crate::strict::{Strict, WrongFrom};

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// What is put in the place of the first wrong byte: no parser takes it, so the client hears 400.
/// With the end of a head: hyper looks at a head that came in pieces only when its end is there.
const POISON: &[u8] = b"\0\r\n\r\n";

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
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// HTTP/2: bytes between requests are frames of the connection, not the beginning of a head.
    is_h2: AtomicBool,
    /// HTTP/2: for each answer under way, when its last piece was handed over, plus one; 0: the
    /// next piece is wanted. A connection can take bytes while one of its streams takes none.
    handed: Mutex<Vec<Arc<AtomicU64>>>,
    /// The bytes are a WebSocket's.
    raw: AtomicBool,
}

/// What a connection waits for, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The client owes a head.
    Head(Instant),
    /// The client has asked for nothing since.
    Idle(Instant),
    /// A request is being answered.
    No,
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
    pub(crate) fn new(is_h2: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            stage: AtomicU8::new(HEAD),
            since_ms: AtomicU64::new(0),
            blocked_ms: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            is_h2: AtomicBool::new(is_h2),
            handed: Mutex::new(Vec::new()),
            raw: AtomicBool::new(false),
        })
    }

    /// It is known now how the client speaks; from here it owes a head.
    pub(crate) fn greeted(&self, is_h2: bool) {
        self.is_h2.store(is_h2, Ordering::Release);
        self.enter(HEAD);
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.is_h2.load(Ordering::Acquire)
    }

    /// What the connection waits for.
    pub(crate) fn waits(&self) -> Waits {
        let since = self.start + Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        match self.stage.load(Ordering::Acquire) {
            // A client that has not taken all of its answer is still being answered.
            _ if self.raw.load(Ordering::Acquire) || self.untaken_ms() > 0 => Waits::No,
            HEAD => Waits::Head(since),
            IDLE => Waits::Idle(since),
            _ => Waits::No,
        }
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
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.enter(BUSY);
        let handed = self.is_h2().then(|| {
            let handed = Arc::new(AtomicU64::new(0));
            self.streams().push(Arc::clone(&handed));
            handed
        });
        BusyMark { clock: Arc::clone(self), handed }
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<Arc<AtomicU64>>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the bytes are no HTTP.
    pub(crate) fn became_raw(&self) {
        self.raw.store(true, Ordering::Release);
    }

    fn read_some(&self) {
        if !self.is_h2() && self.stage.load(Ordering::Acquire) == IDLE {
            self.enter(HEAD);
        }
    }

    fn wrote(&self, blocked: bool) {
        if !blocked {
            if self.blocked_ms.load(Ordering::Relaxed) != 0 {
                self.blocked_ms.store(0, Ordering::Relaxed);
            }
        } else if self.blocked_ms.load(Ordering::Relaxed) == 0 {
            self.blocked_ms.store(self.elapsed_ms() + 1, Ordering::Relaxed);
        }
    }

    /// The moment since when something is not taken by the client, plus one; 0: nothing is.
    fn untaken_ms(&self) -> u64 {
        let blocked = self.blocked_ms.load(Ordering::Relaxed);
        if !self.is_h2() {
            return blocked;
        }
        let streams = self.streams();
        let handed = streams.iter().map(|handed| handed.load(Ordering::Relaxed));
        handed.chain([blocked]).filter(|since| *since > 0).min().unwrap_or(0)
    }

    /// Whether the connection has used up its time, else when to look again.
    pub(crate) fn check(&self, limits: &Limits, fenced: bool) -> Result<Duration, Over> {
        let now = self.elapsed_ms();
        let untaken = self.untaken_ms();
        let stalled = (untaken > 0).then(|| (limits.write_idle_ms + untaken, Over::Stalled));
        let since = self.since_ms.load(Ordering::Relaxed);
        let idle_ms = if fenced { limits.keep_alive_closed_ms } else { limits.keep_alive_ms };
        let staged = match self.stage.load(Ordering::Acquire) {
            IDLE if untaken == 0 => Some((since + idle_ms, Over::Idle)),
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
pub(crate) struct BusyMark {
    clock: Arc<ConnClock>,
    handed: Option<Arc<AtomicU64>>,
}

impl BusyMark {
    /// The client wants the next piece of the answer.
    pub(crate) fn wanted(&self) {
        if let Some(handed) = &self.handed {
            handed.store(0, Ordering::Relaxed);
        }
    }

    /// A piece of the answer was handed over.
    pub(crate) fn handed_over(&self) {
        if let Some(handed) = &self.handed {
            handed.store(self.clock.elapsed_ms() + 1, Ordering::Relaxed);
        }
    }
}

impl Drop for BusyMark {
    fn drop(&mut self) {
        if let Some(mine) = &self.handed {
            self.clock.streams().retain(|handed| !Arc::ptr_eq(handed, mine));
        }
        if self.clock.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.clock.enter(IDLE);
        }
    }
}

/// A connection that tells its clock what passes, and lets only well-formed HTTP/1 pass.
#[derive(Debug)]
pub(crate) struct Clocked<T> {
    io: T,
    clock: Arc<ConnClock>,
    /// What was read to find out which protocol this is, or the rest of the poison.
    first: Vec<u8>,
    /// HTTP/1 only; HTTP/2 has borders that cannot be misread.
    strict: Option<Strict>,
    is_wrong: bool,
}

impl<T> Clocked<T> {
    pub(crate) fn new(io: T, clock: Arc<ConnClock>, first: Vec<u8>, limits: &Limits) -> Self {
        let strict = (!clock.is_h2()).then(|| Strict::new(limits.header_bytes_max));
        Self { io, clock, first, strict, is_wrong: false }
    }

    /// Looks at what was read behind `before`, and cuts it off where it is wrong.
    fn look(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let Some(strict) = &mut self.strict else { return };
        if self.clock.raw.load(Ordering::Acquire) {
            strict.raw();
        }
        if let Err(WrongFrom(at)) = strict.feed(&buf.filled()[before..]) {
            buf.set_filled(before + at);
            self.first = POISON.to_vec();
            self.is_wrong = true;
            self.put_first(buf);
        }
    }

    fn put_first(&mut self, buf: &mut ReadBuf<'_>) {
        let count = buf.remaining().min(self.first.len());
        buf.put_slice(&self.first[..count]);
        self.first.drain(..count);
        if self.first.is_empty() {
            self.first = Vec::new();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Clocked<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_wrong {
            // What is left of the poison, then the end.
            this.put_first(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = if this.first.is_empty() {
            Pin::new(&mut this.io).poll_read(cx, buf)
        } else {
            this.put_first(buf);
            Poll::Ready(Ok(()))
        };
        if buf.filled().len() > before {
            this.look(buf, before);
            this.clock.read_some();
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
        let clock = ConnClock::new(false);
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
        let clock = ConnClock::new(false);
        let mark = clock.busy();
        let limits = Limits { write_idle_ms: 0, ..limits() };
        clock.wrote(true);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.check(&limits, false), Err(Over::Stalled));
        drop(mark);
        assert_eq!(
            clock.waits(),
            Waits::No,
            "nobody is let in for an answer that is not taken yet"
        );
        clock.wrote(false);
        assert!(clock.check(&limits, false).is_ok());
        assert!(matches!(clock.waits(), Waits::Idle(_)));
    }

    #[test]
    fn one_of_many_streams_that_takes_no_bytes_is_noticed_and_frames_are_no_head() {
        let clock = ConnClock::new(true);
        let limits = Limits { write_idle_ms: 0, ..limits() };
        let (first, second) = (clock.busy(), clock.busy());
        assert!(clock.check(&limits, true).is_ok());
        second.handed_over();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.check(&limits, false), Err(Over::Stalled));
        second.wanted();
        assert!(clock.check(&limits, false).is_ok());
        drop(second);
        assert!(clock.check(&limits, true).is_ok(), "the first is still being answered");
        drop(first);
        clock.read_some();
        assert_eq!(clock.check(&limits, true), Err(Over::Idle));
    }
}
