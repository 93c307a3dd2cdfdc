//! What players met, counted in bins of ten seconds and in hours. Testers are left out.

use std::collections::{HashSet, VecDeque};

use entracte_model::UnixMs;
use serde::{Deserialize, Serialize};

use crate::tokens::SessionKey;

/// The length of a bin, in milliseconds.
pub const BIN_MS: u64 = 10_000;
/// The number of latency buckets: bucket 0 is below 1 ms, bucket n is 2^(n-1) to 2^n ms, and the
/// last one holds everything from 65 s on.
pub const LATENCY_BUCKETS: usize = 18;
/// How many bins tell what is usual: half an hour.
const USUAL_BINS: usize = 180;
/// How many answers it takes to say what is usual.
const USUAL_REQUESTS_LEAST: u64 = 100;
const HOUR_MS: u64 = 3_600_000;
/// Distinct sessions counted in one bin or hour; more are counted as this many.
const DISTINCT_MAX: usize = 100_000;

/// Ten seconds of the game, as players met it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bin {
    /// When it began.
    pub from: UnixMs,
    /// The version that the gate was told, if any.
    pub version: Option<String>,
    /// Requests that came in for the game, whoever answered.
    pub requests: u64,
    /// Requests that the game began to answer.
    pub completed: u64,
    /// Distinct sessions among the requests.
    pub sessions: u64,
    /// Sessions seen for the first time.
    pub new_sessions: u64,
    /// Answers with 5xx by the game, and requests that the game gave no answer to.
    pub errors: u64,
    /// Of these, requests that the game gave no answer to (502 and 504 by the gate).
    pub unreachable: u64,
    /// Distinct sessions that met an error.
    pub sessions_with_error: u64,
    /// Time from the request to the head of the game's answer, parked time left out: counts by
    /// power of two, see [`LATENCY_BUCKETS`].
    pub latency_ms_log2: Vec<u64>,
    /// Logins (by the login rules) that the game answered below 400.
    pub logins: u64,
    /// Logins that the game answered with 5xx, or not at all.
    pub login_errors: u64,
    /// Pages that the gate answered in the game's place.
    pub gate_answers: u64,
    /// Requests that were parked.
    pub parked: u64,
    /// Requests that found no place to be parked.
    pub overflow: u64,
    /// Requests whose client left before the answer.
    pub abandoned: u64,
    /// Requests sent again after a dead or refused connection.
    pub retries: u64,
    /// Requests in the game when the bin ended.
    pub in_flight: u64,
}

/// One hour, for finding the quiet one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourOfWeek {
    /// When it began, a multiple of an hour in UTC.
    pub from: UnixMs,
    /// 0 is Monday 00:00 to 01:00 UTC, 167 is Sunday 23:00 to 24:00 UTC.
    pub hour_of_week: u8,
    /// Distinct sessions. After a restart of the gate inside the hour: at least so many.
    pub sessions: u64,
    /// Requests.
    pub requests: u64,
    /// The most new sessions a second, over one bin.
    pub new_sessions_peak_per_s: f64,
}

/// The hour of the week of a moment, 0 to 167, from Monday 00:00 UTC.
pub(crate) fn hour_of_week(at: UnixMs) -> u8 {
    // 1970-01-01 was a Thursday: three days after Monday.
    let hours = at.0.div_euclid(3_600_000) + 3 * 24;
    u8::try_from(hours.rem_euclid(168)).unwrap_or(0)
}

/// The bucket of a latency.
pub(crate) fn bucket(latency_ms: u64) -> usize {
    let bits = usize::try_from(u64::BITS - latency_ms.leading_zeros()).unwrap_or(LATENCY_BUCKETS);
    bits.min(LATENCY_BUCKETS - 1)
}

/// Distinct sessions, bounded.
#[derive(Debug, Default)]
struct Distinct(HashSet<SessionKey>);

impl Distinct {
    fn see(&mut self, key: SessionKey) {
        if self.0.len() < DISTINCT_MAX {
            self.0.insert(key);
        }
    }

    fn take(&mut self) -> u64 {
        let count = self.0.len();
        self.0.clear();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// How a request of a player ended, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The game began its answer.
    Answered { status: u16, latency_ms: u64 },
    /// The game gave none: 502 or 504.
    Unreachable,
    /// The client left.
    Abandoned,
}

/// All counts, and those of the past that are kept.
#[derive(Debug)]
pub(crate) struct Bins {
    bin: Bin,
    sessions: Distinct,
    errored: Distinct,
    past: VecDeque<Bin>,
    past_max: usize,
    hour: HourOfWeek,
    hour_sessions: Distinct,
    /// What a gate before this one had counted in the same hour.
    hour_carried: u64,
    hours: VecDeque<HourOfWeek>,
    hours_max: usize,
    totals: Totals,
}

/// Counts since the gate's process began, for whoever collects them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    /// The sums of all bins; of the latency, the buckets.
    pub(crate) sum: Bin,
    /// The game's answers by the hundred of their status.
    pub(crate) by_class: [u64; 6],
    pub(crate) latency_ms: u64,
}

impl Totals {
    fn add(&mut self, bin: &Bin) {
        let sum = &mut self.sum;
        sum.requests += bin.requests;
        sum.completed += bin.completed;
        sum.new_sessions += bin.new_sessions;
        sum.errors += bin.errors;
        sum.unreachable += bin.unreachable;
        sum.logins += bin.logins;
        sum.login_errors += bin.login_errors;
        sum.gate_answers += bin.gate_answers;
        sum.parked += bin.parked;
        sum.overflow += bin.overflow;
        sum.abandoned += bin.abandoned;
        sum.retries += bin.retries;
        sum.latency_ms_log2.resize(LATENCY_BUCKETS, 0);
        for (sum, count) in sum.latency_ms_log2.iter_mut().zip(&bin.latency_ms_log2) {
            *sum += count;
        }
    }
}

/// What has to be written after a bin ended.
#[derive(Debug)]
pub(crate) struct Rolled {
    pub(crate) bin: Bin,
    pub(crate) hour_ended: bool,
}

fn floor(at: UnixMs, step_ms: u64) -> UnixMs {
    let step = i64::try_from(step_ms).unwrap_or(i64::MAX);
    UnixMs(at.0.div_euclid(step) * step)
}

fn new_hour(from: UnixMs) -> HourOfWeek {
    HourOfWeek {
        from,
        hour_of_week: hour_of_week(from),
        sessions: 0,
        requests: 0,
        new_sessions_peak_per_s: 0.0,
    }
}

fn new_bin(from: UnixMs, version: Option<String>) -> Bin {
    Bin { from, version, latency_ms_log2: vec![0; LATENCY_BUCKETS], ..Bin::default() }
}

impl Bins {
    pub(crate) fn new(
        now: UnixMs,
        past: VecDeque<Bin>,
        past_max: usize,
        mut hours: VecDeque<HourOfWeek>,
        hours_max: usize,
    ) -> Self {
        let from = floor(now, HOUR_MS);
        let carried = hours.back().is_some_and(|last| last.from == from);
        let hour = if carried { hours.pop_back() } else { None }.unwrap_or_else(|| new_hour(from));
        Self {
            bin: new_bin(floor(now, BIN_MS), None),
            sessions: Distinct::default(),
            errored: Distinct::default(),
            past,
            past_max,
            hour_carried: hour.sessions,
            hour,
            hour_sessions: Distinct::default(),
            hours,
            hours_max,
            totals: Totals::default(),
        }
    }

    /// Goes on with what the gate before this one had counted of the same ten seconds.
    pub(crate) fn go_on(&mut self, bin: Option<Bin>) {
        let same =
            |bin: &Bin| bin.from == self.bin.from && bin.latency_ms_log2.len() == LATENCY_BUCKETS;
        if let Some(bin) = bin.filter(same) {
            self.bin = bin;
        }
    }

    /// All bins of this process together, the unfinished one included.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        totals.add(&self.bin);
        totals
    }

    /// A request came in for the game.
    pub(crate) fn arrived(&mut self, session: SessionKey, is_new: bool) {
        self.bin.requests += 1;
        self.bin.new_sessions += u64::from(is_new);
        self.hour.requests += 1;
        self.sessions.see(session);
        self.hour_sessions.see(session);
    }

    /// A request left the game, or was given up.
    pub(crate) fn ended(&mut self, session: SessionKey, is_login: bool, how: Ended) {
        let failed = match how {
            Ended::Answered { status, latency_ms } => {
                self.bin.completed += 1;
                self.totals.by_class[usize::from(status / 100).min(5)] += 1;
                self.totals.latency_ms += latency_ms;
                self.bin.latency_ms_log2[bucket(latency_ms)] += 1;
                self.bin.logins += u64::from(is_login && status < 400);
                status >= 500
            }
            Ended::Unreachable => {
                self.bin.unreachable += 1;
                true
            }
            Ended::Abandoned => {
                self.bin.abandoned += 1;
                false
            }
        };
        if failed {
            self.bin.errors += 1;
            self.bin.login_errors += u64::from(is_login);
            self.errored.see(session);
        }
    }

    /// The counts that need no session.
    pub(crate) fn bin(&mut self) -> &mut Bin {
        &mut self.bin
    }

    /// Ends the bin where its time is over.
    pub(crate) fn roll(
        &mut self,
        now: UnixMs,
        in_flight: u64,
        version: Option<&String>,
    ) -> Option<Rolled> {
        let from = floor(now, BIN_MS);
        if from == self.bin.from {
            return None;
        }
        let mut bin = std::mem::replace(&mut self.bin, new_bin(from, version.cloned()));
        self.totals.add(&bin);
        bin.sessions = self.sessions.take();
        bin.sessions_with_error = self.errored.take();
        bin.in_flight = in_flight;
        let per_s = per_second(bin.new_sessions);
        self.hour.new_sessions_peak_per_s = self.hour.new_sessions_peak_per_s.max(per_s);
        if self.past.len() >= self.past_max {
            self.past.pop_front();
        }
        self.past.push_back(bin.clone());
        Some(Rolled { bin, hour_ended: self.roll_hour(floor(now, HOUR_MS)) })
    }

    fn roll_hour(&mut self, from: UnixMs) -> bool {
        if from == self.hour.from {
            return false;
        }
        let mut hour = std::mem::replace(&mut self.hour, new_hour(from));
        hour.sessions = self.hour_carried.max(self.hour_sessions.take());
        self.hour_carried = 0;
        if self.hours.len() >= self.hours_max {
            self.hours.pop_front();
        }
        self.hours.push_back(hour);
        true
    }

    /// The finished bins that began in `from..to`.
    pub(crate) fn between(&self, from: UnixMs, to: UnixMs) -> Vec<Bin> {
        self.past.iter().filter(|bin| (from..to).contains(&bin.from)).cloned().collect()
    }

    /// When the oldest bin in memory began.
    pub(crate) fn oldest(&self) -> UnixMs {
        self.past.front().map_or(self.bin.from, |bin| bin.from)
    }

    /// All hours, the present one last.
    pub(crate) fn hours(&self) -> Vec<HourOfWeek> {
        let seen = u64::try_from(self.hour_sessions.0.len()).unwrap_or(u64::MAX);
        let present = HourOfWeek { sessions: self.hour_carried.max(seen), ..self.hour.clone() };
        self.hours.iter().cloned().chain([present]).collect()
    }

    /// Requests a second over the last full bin.
    pub(crate) fn requests_per_s(&self) -> f64 {
        self.past.back().map_or(0.0, |bin| per_second(bin.requests))
    }

    /// Within how many milliseconds 95 of 100 answers came lately, as far as the buckets tell; nothing
    /// where there were too few to say.
    pub(crate) fn usual_p95_ms(&self) -> Option<u64> {
        let lately = self.past.iter().rev().take(USUAL_BINS).chain([&self.bin]);
        let mut counts = [0; LATENCY_BUCKETS];
        for bin in lately {
            for (sum, count) in counts.iter_mut().zip(&bin.latency_ms_log2) {
                *sum += count;
            }
        }
        let all: u64 = counts.iter().sum();
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen * 100 >= all * 95
        })?;
        (all >= USUAL_REQUESTS_LEAST).then_some(1 << bucket)
    }

    /// The most new sessions a second that were ever seen, if any.
    pub(crate) fn peak_new_per_s(&self) -> Option<f64> {
        let hours = self.hours.iter().chain([&self.hour]);
        hours.map(|hour| hour.new_sessions_peak_per_s).filter(|peak| *peak > 0.0).reduce(f64::max)
    }
}

fn per_second(in_bin: u64) -> f64 {
    f64::from(u32::try_from(in_bin).unwrap_or(u32::MAX)) * 1_000.0 / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn bins(now: UnixMs) -> Bins {
        Bins::new(now, VecDeque::new(), 3, VecDeque::new(), 2)
    }

    #[test]
    fn what_is_usual_is_told_by_enough_answers_only() {
        let mut bins = bins(NOW);
        let mut answer = |count: u64, latency_ms: u64| {
            for _ in 0..count {
                bins.ended([1; 16], false, Ended::Answered { status: 200, latency_ms });
            }
            bins.usual_p95_ms()
        };
        assert_eq!(answer(99, 3), None);
        assert_eq!(answer(1, 3), Some(4));
        assert_eq!(answer(5, 900), Some(4));
        assert_eq!(answer(20, 900), Some(1_024));
    }

    #[test]
    fn a_player_who_retries_is_one_session_with_an_error() {
        let mut bins = bins(NOW);
        for _ in 0..10 {
            bins.arrived([1; 16], false);
            bins.ended([1; 16], false, Ended::Answered { status: 500, latency_ms: 3 });
        }
        bins.arrived([2; 16], true);
        bins.ended([2; 16], true, Ended::Answered { status: 302, latency_ms: 0 });
        let bin = bins.roll(NOW + BIN_MS, 4, None).unwrap().bin;
        assert_eq!((bin.requests, bin.sessions, bin.new_sessions), (11, 2, 1));
        assert_eq!((bin.errors, bin.sessions_with_error, bin.logins, bin.in_flight), (10, 1, 1, 4));
        assert_eq!((bin.latency_ms_log2[0], bin.latency_ms_log2[2]), (1, 10));
        assert_eq!(bins.requests_per_s(), 1.1);
        assert_eq!(bins.peak_new_per_s(), Some(0.1));
    }

    #[test]
    fn unreachable_is_an_error_and_abandoned_is_none() {
        let mut bins = bins(NOW);
        bins.ended([1; 16], true, Ended::Unreachable);
        bins.ended([1; 16], false, Ended::Abandoned);
        let bin = bins.roll(NOW + BIN_MS, 0, None).unwrap().bin;
        assert_eq!((bin.errors, bin.unreachable, bin.abandoned, bin.login_errors), (1, 1, 1, 1));
    }

    #[test]
    fn the_past_is_bounded_and_read_by_time() {
        let mut bins = bins(NOW);
        for n in 1..=5 {
            assert!(bins.roll(NOW + n * BIN_MS, 0, None).is_some());
            assert!(bins.roll(NOW + n * BIN_MS + 1, 0, None).is_none());
        }
        assert_eq!(bins.between(UnixMs(0), UnixMs(i64::MAX)).len(), 3);
        assert_eq!(bins.between(NOW + 3 * BIN_MS, NOW + 4 * BIN_MS).len(), 1);
    }

    #[test]
    fn an_hour_goes_on_after_a_restart_and_never_counts_down() {
        let mut first = bins(NOW);
        first.arrived([1; 16], true);
        first.arrived([2; 16], true);
        let carried: VecDeque<_> = first.hours().into();
        let mut second = Bins::new(NOW + 1, VecDeque::new(), 3, carried, 2);
        second.arrived([1; 16], false);
        let hours = second.hours();
        assert_eq!((hours.len(), hours[0].sessions, hours[0].requests), (1, 2, 3));
        assert!(second.roll(NOW + HOUR_MS, 0, None).unwrap().hour_ended);
        assert_eq!(second.hours().len(), 2);
    }

    #[test]
    fn hours_of_the_week_begin_on_monday() {
        assert_eq!(hour_of_week(UnixMs(0)), 72);
        assert_eq!(hour_of_week(UnixMs(4 * 86_400_000)), 0);
        assert_eq!(hour_of_week(UnixMs(4 * 86_400_000 - 1)), 167);
    }

    #[test]
    fn buckets_are_powers_of_two() {
        let found = [0, 1, 2, 3, 4, 1_023, 1_024, 65_535, 65_536, u64::MAX].map(bucket);
        assert_eq!(found, [0, 1, 2, 2, 3, 10, 11, 16, 17, 17]);
    }
}
