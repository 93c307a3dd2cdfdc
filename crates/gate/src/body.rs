//! Bodies on their way through: the client's to the game, the game's to the client.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use entracte_model::gate::Phase;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::conn::BusyMark;
use crate::in_flight::InFlight;
use crate::inject::Injector;
use crate::pool::Leased;
use crate::timer::LazyTimer;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body paused for longer than {0} ms")]
    Idle(u64),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// A limit on pauses. Counts only while a body makes its reader wait.
#[derive(Debug)]
pub(crate) struct Patience {
    limit_ms: u64,
    /// Set while the reader waits.
    until: Option<Instant>,
    timer: LazyTimer,
}

impl Patience {
    pub(crate) fn new(limit_ms: u64) -> Self {
        Self { limit_ms, until: None, timer: LazyTimer::default() }
    }

    fn progress(&mut self) {
        self.until = None;
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let limit = Duration::from_millis(self.limit_ms);
        let until = *self.until.get_or_insert_with(|| Instant::now() + limit);
        self.timer.poll_until(until, cx).map(|()| BodyError::Idle(self.limit_ms))
    }
}

/// How far the client's body got, for whoever handed it over.
#[derive(Debug, Default)]
pub(crate) struct UploadFate {
    finished: AtomicBool,
    failed: AtomicBool,
}

impl UploadFate {
    /// Everything was read.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// The client broke off, or paused for too long.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// A client's body on its way to the game.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What was read while the request was parked.
    first: VecDeque<Bytes>,
    rest: Option<Incoming>,
    patience: Patience,
    fate: Arc<UploadFate>,
}

impl Upload {
    pub(crate) fn new(first: VecDeque<Bytes>, rest: Option<Incoming>, idle_ms: u64) -> Self {
        let upload = Self {
            first,
            rest,
            patience: Patience::new(idle_ms),
            fate: Arc::new(UploadFate::default()),
        };
        if upload.is_end_stream() {
            upload.fate.finished.store(true, Ordering::Release);
        }
        upload
    }

    pub(crate) fn empty() -> Self {
        Self::new(VecDeque::new(), None, 0)
    }

    pub(crate) fn fate(&self) -> Arc<UploadFate> {
        Arc::clone(&self.fate)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(bytes) = this.first.pop_front() {
            if this.is_end_stream() {
                this.fate.finished.store(true, Ordering::Release);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        let frame = match Pin::new(rest).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                return this.patience.poll_over(cx).map(|error| {
                    this.fate.failed.store(true, Ordering::Release);
                    Some(Err(error))
                });
            }
        };
        this.patience.progress();
        match &frame {
            Some(Err(_)) => this.fate.failed.store(true, Ordering::Release),
            Some(Ok(_)) if !this.is_end_stream() => {}
            Some(Ok(_)) | None => this.fate.finished.store(true, Ordering::Release),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read: usize = self.first.iter().map(Bytes::len).sum();
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        let rest = self.rest.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

/// An answer on its way to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    kind: Kind,
    /// Says that the connection is idle again when the answer is done.
    mark: Option<BusyMark>,
}

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Relay(Box<Relay>),
}

/// The game's body, passed on as it comes.
pub(crate) struct Relay {
    pub(crate) body: Incoming,
    /// Dropped when the game has sent everything, however slowly the client takes it.
    pub(crate) guard: Option<InFlight>,
    /// The connection to the game, given back when the body is done.
    pub(crate) lease: Option<(Leased, Arc<UploadFate>)>,
    pub(crate) patience: Option<Patience>,
    pub(crate) injector: Option<Injector>,
    /// Set for event streams: they never end, so the gate ends them when it closes.
    pub(crate) events: Option<Events>,
    /// The game broke off, and what came before that is on its way to the client.
    pub(crate) broken: Option<BodyError>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("body", &self.body).finish_non_exhaustive()
    }
}

/// An event stream (`text/event-stream`) that the gate may have to end.
pub(crate) struct Events {
    fenced: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The last bytes that went out, to know whether an event is complete.
    tail: [u8; 2],
    ended: bool,
}

impl Events {
    pub(crate) fn new(mut phase: watch::Receiver<Phase>) -> Self {
        let fenced = async move {
            // An error means that the gate itself ends, which ends the stream, too.
            let _ = phase.wait_for(|phase| phase.is_fenced()).await;
        };
        Self { fenced: Box::pin(fenced), tail: *b"\n\n", ended: false }
    }

    /// The last event of a stream that the gate ends: when to come back. Between two events only;
    /// an unfinished one is dropped by the client, and must not be completed by this.
    fn farewell(&mut self, cx: &mut Context<'_>) -> Option<Option<Bytes>> {
        if self.ended {
            return Some(None);
        }
        if self.fenced.as_mut().poll(cx).is_pending() {
            return None;
        }
        self.ended = true;
        let complete = self.tail == *b"\n\n";
        Some(complete.then(|| {
            Bytes::from_static(b"retry: 15000\nevent: entracte\ndata: {\"phase\":\"closed\"}\n\n")
        }))
    }

    fn sent(&mut self, bytes: &[u8]) {
        for byte in bytes
            .iter()
            .rev()
            .filter(|b| **b != b'\r')
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            self.tail = [self.tail[1], *byte];
        }
    }
}

impl Answer {
    /// A body that is known as a whole.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Whole(Some(bytes.into())), mark: None }
    }

    pub(crate) fn empty() -> Self {
        Self { kind: Kind::Whole(None), mark: None }
    }

    /// The bytes of a body that is known as a whole.
    pub(crate) fn into_whole(self) -> Bytes {
        match self.kind {
            Kind::Whole(bytes) => bytes.unwrap_or_default(),
            Kind::Relay(_) => Bytes::new(),
        }
    }

    pub(crate) fn relay(mut relay: Relay) -> Self {
        relay.give_back_if_done();
        Self { kind: Kind::Relay(Box::new(relay)), mark: None }
    }

    pub(crate) fn marked(mut self, mark: BusyMark) -> Self {
        self.mark = Some(mark);
        self
    }
}

impl Relay {
    /// A connection goes back to the pool only after a complete exchange: the game's answer is
    /// read, and the client's body was taken in whole.
    fn give_back_if_done(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((lease, fate)) = self.lease.take()
            && fate.is_finished()
        {
            lease.give_back();
        }
        drop(self.guard.take());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(last) = self.events.as_mut().and_then(|events| events.farewell(cx)) {
            return Poll::Ready(last.map(|bytes| Ok(Frame::data(bytes))));
        }
        let polled = match &mut self.lease {
            Some((lease, _)) => lease.poll_body(&mut self.body, cx),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                return match &mut self.patience {
                    Some(patience) => patience.poll_over(cx).map(|error| Some(Err(error))),
                    None => Poll::Pending,
                };
            }
        };
        if let Some(patience) = &mut self.patience {
            patience.progress();
        }
        match frame {
            Some(Ok(frame)) => {
                self.give_back_if_done();
                let frame = match (&mut self.injector, frame.into_data()) {
                    (Some(injector), Ok(bytes)) => Frame::data(injector.pass(bytes)),
                    (None, Ok(bytes)) => Frame::data(bytes),
                    (_, Err(trailers)) => trailers,
                };
                if let (Some(events), Some(bytes)) = (&mut self.events, frame.data_ref()) {
                    events.sent(bytes);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                // What came before it must reach the client first: a connection that ends before
                // the answer's first byte is taken for one that was never asked, and asked again.
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.give_back();
                let kept =
                    self.injector.as_mut().map(Injector::rest).filter(|bytes| !bytes.is_empty());
                Poll::Ready(kept.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(mark) = &self.mark {
            mark.wanted();
        }
        let polled = match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Relay(relay) => relay.poll(cx),
        };
        if let (Some(mark), Poll::Ready(Some(Ok(_)))) = (&self.mark, &polled) {
            mark.handed_over();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Relay(relay) => relay.injector.is_none() && relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(
                bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)),
            ),
            // An event stream may end early, and an injected page gets longer.
            Kind::Relay(relay) if relay.events.is_some() || relay.injector.is_some() => {
                SizeHint::default()
            }
            Kind::Relay(relay) => relay.body.size_hint(),
        }
    }
}
