//! The gate's one lock: state, requests in flight, sessions, counts. Nothing under it waits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use entracte_model::UnixMs;
use entracte_model::gate::{self, Action, Facts, PageKind, Phase, Refused, State};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::access_log::AccessLog;
use crate::bins::{Bin, Bins, Ended, HourOfWeek, Rolled, Totals};
use crate::config::{GateConfig, Parsed};
use crate::control::Status;
use crate::error::GateError;
use crate::in_flight::InFlight;
use crate::pages::KeptPages;
use crate::park::{BodyRoom, Park, Room};
use crate::pass_tokens::PassTokens;
use crate::pool::Pool;
use crate::sessions::Sessions;
use crate::state_file::{Loaded, StateFile};
use crate::succession::{Heirlooms, Successor};
use crate::tls::Tls;
use crate::tokens::{Keys, Place, SessionKey};
use crate::waiting_room::{Reopening, slow_from_ms};
use crate::who::Who;

mod moving;

/// How far the wall clock is set off, in milliseconds. For tests of a clock that jumps.
#[doc(hidden)]
pub static WALL_CLOCK_OFF_MS: AtomicI64 = AtomicI64::new(0);

/// The wall clock, which may jump: for what other programs wrote, and to be written down.
pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    UnixMs(now_ms.saturating_add(WALL_CLOCK_OFF_MS.load(Ordering::Relaxed)))
}

/// A wall clock that nobody sets: where it stood at the start, and the time that passed since. A
/// jump of the system's clock must not make players leave, sessions old, passes void, or a promise
/// broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    start: UnixMs,
    since: Instant,
}

impl Steady {
    fn begin() -> Self {
        Self { start: now(), since: Instant::now() }
    }

    pub(crate) fn now(self) -> UnixMs {
        self.start + elapsed_ms(self.since)
    }
}

/// What the gate before this one, which handed its door over, still has in the game.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Elder {
    /// The last state that it follows, by its number.
    pub(crate) acts: u64,
    pub(crate) in_flight: u64,
    pub(crate) tunnels: u64,
    pub(crate) testers_in_flight: u64,
    pub(crate) parked: u64,
}

/// Everything that the tasks of a gate share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: GateConfig,
    pub(crate) parsed: Parsed,
    pub(crate) keys: Keys,
    pub(crate) pool: Pool,
    pub(crate) log: Option<AccessLog>,
    pub(crate) pass_tokens: PassTokens,
    pub(crate) kept_pages: KeptPages,
    pub(crate) listen: OnceLock<SocketAddr>,
    /// Requests that wait for a game that refuses connections.
    pub(crate) connect_waiting: Semaphore,
    /// The phase, for those who wait on it. Set after the state under the lock.
    pub(crate) phase: watch::Sender<Phase>,
    /// True when the gate itself is to end.
    pub(crate) stop: watch::Sender<bool>,
    /// True when another process has the door now.
    pub(crate) retired: watch::Sender<bool>,
    /// True while a gate before this one still serves somebody.
    pub(crate) has_elder: watch::Sender<bool>,
    pub(crate) tls: Option<Tls>,
    pub(crate) connections: AtomicU64,
    /// By this, what the gate gave out is valid or over.
    pub(crate) clock: Steady,
    /// What a successor is given.
    heirlooms: Mutex<Option<Heirlooms>>,
    pub(crate) successor: Option<Successor>,
    state_file: StateFile,
    /// One goal at a time is written and put in force.
    writer: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    due: Option<(Instant, Phase)>,
    alarm: Option<String>,
    in_flight: u64,
    tunnels: u64,
    testers_in_flight: u64,
    park: Park<oneshot::Sender<InFlight>>,
    releasing: bool,
    sessions: Sessions,
    bins: Bins,
    reopening: Option<Reopening>,
    clock: Steady,
    /// The same, begun with the present state: the goal's times were told by the clock of that
    /// moment, and what remains of them is counted from there.
    told: Steady,
    /// How many states were put in force.
    acts: u64,
    elder: Option<Elder>,
}

pub(crate) fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What a request meets.
#[derive(Debug)]
pub(crate) enum Entry {
    /// One of the gate's own paths.
    Own,
    /// A health check, answered here.
    Healthy,
    /// On to the game; players may get a ticket with the answer.
    Pass { guard: InFlight, ticket: bool },
    /// Wait for the guard.
    Park(Parked),
    /// A page. In the waiting room with the client's place.
    Page(PageKind, Option<Place>),
}

/// A place among the parked. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Parked {
    core: Arc<Core>,
    place: u64,
    pub(crate) released: oneshot::Receiver<InFlight>,
}

impl Drop for Parked {
    fn drop(&mut self) {
        let sender = self.core.inner().park.leave(self.place);
        drop(sender);
    }
}

/// What a page or the status endpoint shows of the state.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) now: UnixMs,
    /// In the waiting room: how many are before the client, and how long that takes, in seconds.
    pub(crate) ahead: Option<(u64, u64)>,
    /// The client would be let in now.
    pub(crate) enter: bool,
}

/// What happened to a goal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Gate(#[from] GateError),
}

/// What the gate starts with.
pub(crate) struct Start {
    pub(crate) loaded: Loaded,
    pub(crate) keys: Keys,
    pub(crate) log: Option<AccessLog>,
    pub(crate) sessions: Sessions,
    pub(crate) bins: VecDeque<Bin>,
    pub(crate) hours: VecDeque<HourOfWeek>,
    pub(crate) tls: Option<Tls>,
    pub(crate) successor: Option<Successor>,
    /// Counts of the bin that the gate before this one had not ended.
    pub(crate) bin: Option<Bin>,
    pub(crate) elder: Option<Elder>,
}

impl Core {
    pub(crate) fn new(config: GateConfig, parsed: Parsed, start: Start) -> Arc<Self> {
        let limits = &config.limits;
        let room = Room {
            all: limits.parked_max.min(files_limit() / 4),
            per_address: limits.parked_per_address_max,
            bodies_bytes: limits.parked_bodies_bytes_max,
            unread: limits.parked_unread_max,
        };
        let mut bins =
            Bins::new(now(), start.bins, limits.bins_memory_max, start.hours, limits.hours_kept);
        bins.go_on(start.bin);
        let Loaded { state, alarm } = start.loaded;
        let inner = Inner {
            due: due_instant(&state),
            reopening: (state.phase == Phase::Reopening).then(|| {
                let (peak, slow) = (bins.peak_new_per_s(), slow_from_ms(bins.usual_p95_ms()));
                Reopening::new(state.goal.generation, peak, limits.ramp_step_ms, slow)
            }),
            alarm,
            in_flight: 0,
            tunnels: 0,
            testers_in_flight: 0,
            park: Park::new(room),
            releasing: false,
            sessions: start.sessions,
            bins,
            state,
            clock: Steady::begin(),
            told: Steady::begin(),
            acts: 0,
            elder: start.elder,
        };
        Arc::new(Self {
            parsed,
            keys: start.keys,
            pool: Pool::new(&config),
            log: start.log,
            pass_tokens: PassTokens::new(limits.pass_tokens_max),
            kept_pages: KeptPages::default(),
            listen: OnceLock::new(),
            connect_waiting: Semaphore::new(limits.connect_waiting_max),
            phase: watch::Sender::new(inner.state.phase),
            stop: watch::Sender::new(false),
            retired: watch::Sender::new(false),
            has_elder: watch::Sender::new(inner.elder.is_some()),
            tls: start.tls,
            connections: AtomicU64::new(0),
            clock: Steady::begin(),
            heirlooms: Mutex::new(None),
            successor: start.successor,
            state_file: StateFile::new(&config.state_dir),
            writer: tokio::sync::Mutex::new(()),
            inner: Mutex::new(inner),
            config,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock leaves counts off by one at worst; a gate that stops answering
        // because of it would be worse.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Decides what a request meets, and counts it as in flight in the same breath.
    pub(crate) fn enter(self: &Arc<Self>, who: &Who) -> Entry {
        let mut inner = self.inner();
        let facts = Facts {
            method: who.method.as_str(),
            path: who.path(),
            has_ticket: who.ticket.is_some(),
            has_session_cookie: who.cookies.iter().any(|key| inner.sessions.knows(key)),
            is_tester: who.is_tester,
            is_upgrade: who.is_upgrade,
            is_health: who.is_health,
        };
        let is_in = facts.is_in();
        match gate::decide(&inner.state, &self.parsed.login, &facts) {
            Action::Own => Entry::Own,
            Action::Healthy => Entry::Healthy,
            Action::PassTester => {
                inner.testers_in_flight += 1;
                Entry::Pass { guard: InFlight::new(self, who, false), ticket: false }
            }
            Action::Pass { ticket } => {
                inner.arrive(who, is_in, ticket);
                inner.in_flight += 1;
                Entry::Pass { guard: InFlight::new(self, who, is_in), ticket }
            }
            Action::Park => {
                inner.bins.arrived(who.session, false);
                let (sender, released) = oneshot::channel();
                match inner.park.join(who.address, self.body_room(who), sender) {
                    Some(place) => {
                        inner.bins.bin().parked += 1;
                        Entry::Park(Parked { core: Arc::clone(self), place, released })
                    }
                    None => {
                        inner.bins.bin().overflow += 1;
                        inner.bins.bin().gate_answers += 1;
                        Entry::Page(PageKind::Closed, None)
                    }
                }
            }
            Action::Pace => {
                let arrived = inner
                    .reopening
                    .as_mut()
                    .map_or(Ok(()), |reopening| reopening.arrive(who.place, who.wants_html));
                match arrived {
                    Ok(()) => {
                        inner.arrive(who, is_in, true);
                        inner.in_flight += 1;
                        Entry::Pass { guard: InFlight::new(self, who, is_in), ticket: true }
                    }
                    Err(place) => {
                        inner.bins.arrived(who.session, false);
                        inner.bins.bin().gate_answers += 1;
                        Entry::Page(PageKind::WaitingRoom, place)
                    }
                }
            }
            Action::Page(kind) => {
                inner.bins.arrived(who.session, false);
                inner.bins.bin().gate_answers += 1;
                Entry::Page(kind, None)
            }
        }
    }

    fn body_room(&self, who: &Who) -> BodyRoom {
        match who.body_bytes {
            Some(bytes) if who.keeps_body(self.config.limits.parked_body_bytes_max) => {
                BodyRoom::Kept(bytes)
            }
            Some(_) | None => BodyRoom::Unread,
        }
    }

    /// The game set a session cookie for a player who is in, or who just logged in.
    pub(crate) fn learn(&self, key: SessionKey) {
        let mut inner = self.inner();
        let at = inner.clock.now();
        inner.sessions.learn(key, at);
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Bin)) {
        add(self.inner().bins.bin());
    }

    /// How a request in flight ended, as far as its counting goes.
    pub(crate) fn ended(&self, session: SessionKey, is_login: bool, how: Ended) {
        let mut inner = self.inner();
        inner.bins.ended(session, is_login, how);
        if let Some(reopening) = &mut inner.reopening {
            reopening.ended(how);
        }
    }

    pub(crate) fn leave(&self, is_tester: bool, was_tunnel: bool) {
        let mut inner = self.inner();
        if is_tester {
            inner.testers_in_flight -= 1;
        } else {
            inner.in_flight -= 1;
            inner.tunnels -= u64::from(was_tunnel);
        }
    }

    pub(crate) fn became_tunnel(&self) {
        self.inner().tunnels += 1;
    }

    /// How many states were put in force.
    pub(crate) fn acts(&self) -> u64 {
        self.inner().acts
    }

    /// What a client is shown.
    pub(crate) fn view(&self, who: &Who, place: Option<Place>) -> View {
        let mut inner = self.inner();
        let phase = inner.state.phase;
        let is_in = who.ticket.is_some() || who.cookies.iter().any(|key| inner.sessions.knows(key));
        let mut ahead = None;
        let mut enter = match phase {
            Phase::Open | Phase::Announced => true,
            Phase::Draining | Phase::Reopening => is_in,
            Phase::Holding | Phase::Closed => false,
        } || who.is_tester;
        if let (Some(reopening), false) = (&mut inner.reopening, enter) {
            reopening.serve();
            let place = place.or(who.place).filter(|place| place.epoch == reopening.epoch);
            if let Some(place) = place {
                enter = place.number < reopening.served;
                let before = place.number.saturating_sub(reopening.served);
                ahead = (!enter).then(|| (before, reopening.ramp.wait_s(before + 1)));
            } else {
                enter = reopening.waiting() == 0;
            }
        }
        View { state: inner.state.clone(), now: inner.told.now(), ahead, enter }
    }

    pub(crate) fn status(&self, upstream_ok: bool) -> Status {
        let limits = &self.config.limits;
        let inner = self.inner();
        let now = inner.told.now();
        let state = &inner.state;
        let promise = state.goal.reopens_p90.or(state.goal.reopens_p50);
        let overdue_ms = promise.filter(|_| state.phase.is_fenced()).map_or(0, |at| now.since(at));
        let late = (overdue_ms > 0).then(|| {
            "the promised time of reopening has passed; say a new one, or open the gate".to_owned()
        });
        let reopening = inner.reopening.as_ref();
        let at = inner.clock.now();
        let all = inner.with_elder();
        let in_flight = all.in_flight;
        Status {
            phase: state.phase,
            generation: state.goal.generation,
            goal: state.goal.clone(),
            since: state.since,
            server_time: now,
            in_flight,
            tunnels: all.tunnels,
            testers_in_flight: all.testers_in_flight,
            sessions_in: inner.sessions.within(limits.sessions_in_ms, at),
            players_left: inner.sessions.within(limits.player_left_ms, at).max(in_flight),
            parked: all.parked,
            waiting: reopening.map_or(0, Reopening::waiting),
            admitted: reopening.map_or(0, |reopening| reopening.served),
            admission_per_s: reopening.map_or(0.0, |reopening| reopening.ramp.rate_per_s()),
            requests_per_s: inner.bins.requests_per_s(),
            upstream_ok,
            overdue_ms,
            alarm: inner.alarm.clone().or(late),
            pid: std::process::id(),
            listen: self.listen.get().copied().unwrap_or(self.config.listen),
        }
    }

    pub(crate) fn bins_between(&self, from: UnixMs, to: UnixMs) -> Vec<Bin> {
        self.inner().bins.between(from, to)
    }

    pub(crate) fn oldest_bin(&self) -> UnixMs {
        self.inner().bins.oldest()
    }

    pub(crate) fn hours(&self) -> Vec<HourOfWeek> {
        self.inner().bins.hours()
    }

    /// Begins a new access log, and takes a renewed certificate into use.
    pub(crate) fn reload(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        self.refresh_tls();
    }

    /// A certificate that cannot be used leaves the old one in use, and an alarm.
    pub(crate) fn refresh_tls(&self) {
        if let Some(Err(error)) = self.tls.as_ref().map(Tls::refresh) {
            self.alarm(Some(format!("{error}; the old certificate is used on")));
        }
    }

    /// What the elder said last; nothing when it has ended.
    pub(crate) fn heard_of_elder(&self, elder: Option<Elder>) {
        self.inner().elder = elder;
        self.has_elder.send_replace(elder.is_some());
    }

    /// What a successor gets; nothing while another one has it.
    pub(crate) fn take_heirlooms(&self) -> Option<Heirlooms> {
        self.heirlooms.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn keep_heirlooms(&self, heirlooms: Heirlooms) {
        *self.heirlooms.lock().unwrap_or_else(PoisonError::into_inner) = Some(heirlooms);
    }

    /// What this gate tells its successor.
    pub(crate) fn as_elder(&self, acts: u64) -> Elder {
        Elder { acts, ..self.inner().with_elder() }
    }

    /// The counts of the bin that has not ended, and the alarm.
    pub(crate) fn unfinished(&self) -> (Bin, Option<String>) {
        let mut inner = self.inner();
        (inner.bins.bin().clone(), inner.alarm.clone())
    }

    /// All that was ever counted by this process.
    pub(crate) fn totals(&self) -> Totals {
        self.inner().bins.totals()
    }

    pub(crate) fn alarm(&self, text: Option<String>) {
        self.inner().alarm = text;
    }

    /// Ends the bin where its time is over.
    pub(crate) fn roll_bins(&self) -> Option<Rolled> {
        let mut inner = self.inner();
        let (in_flight, version) = (inner.in_flight, inner.state.goal.version.clone());
        inner.bins.roll(now(), in_flight, version.as_ref())
    }

    pub(crate) fn sessions_written(&self, always: bool) -> Option<Vec<u8>> {
        let mut inner = self.inner();
        if always {
            let at = inner.clock.now();
            inner.sessions.forget_old(at);
        }
        inner.sessions.take_written(always)
    }
}

impl Inner {
    /// What is in the game through this gate and through those before it.
    fn with_elder(&self) -> Elder {
        let elder = self.elder.unwrap_or_default();
        // Until the elder says that it follows, something of it may still be on its way in.
        let behind = self.elder.is_some_and(|elder| elder.acts < self.acts);
        Elder {
            acts: self.acts,
            in_flight: self.in_flight + elder.in_flight.max(u64::from(behind)),
            tunnels: self.tunnels + elder.tunnels,
            testers_in_flight: self.testers_in_flight + elder.testers_in_flight,
            parked: u64::try_from(self.park.len()).unwrap_or(u64::MAX) + elder.parked,
        }
    }

    /// Counts a request that goes to the game, and notes its session.
    fn arrive(&mut self, who: &Who, was_in: bool, may_learn: bool) {
        let at = self.clock.now();
        let mut is_new = false;
        match (who.cookies.first(), &who.ticket) {
            (Some(cookie), ticket) => {
                if may_learn || was_in {
                    is_new = self.sessions.learn(*cookie, at) && !was_in;
                }
                // The session cookie counts from now on; both would be one player counted twice.
                if let Some(ticket) = ticket {
                    self.sessions.forget(&ticket.id);
                }
            }
            (None, Some(ticket)) => is_new = self.sessions.learn(ticket.id, at),
            (None, None) => {}
        }
        self.bins.arrived(who.session, is_new);
    }
}

fn due_instant(state: &State) -> Option<(Instant, Phase)> {
    gate::due(state, now())
        .map(|(in_ms, phase)| (Instant::now() + Duration::from_millis(in_ms), phase))
}

/// Takes as many open files as this process may have: what it is started with is far less on many
/// systems, for the sake of programs that do not know more.
pub(crate) fn raise_files_limit() {
    let now = getrlimit(Resource::Nofile);
    // Where it is refused, the limit stays, and is respected.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
}

/// How many files this process may have open.
pub(crate) fn files_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
