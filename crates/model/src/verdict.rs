//! The verdict of the watch after a release: not a graph to stare at, but pass, degraded, fail, or
//! inconclusive with the smallest effect that could have been seen by now.
//!
//! **Soft signals** (errors, slowness) are streams of Bernoulli observations: of the `n` distinct
//! sessions of a bin of ten seconds, `x` were hit. Sessions and not requests, since a player who
//! retries must not count ten times. The null hypothesis is that, whatever happened before, a
//! session is hit with a probability of at most `p0`. Against it stands the mixture
//!
//! ```text
//! E(t) = Σ_s w_s · Σ_j v_j · Π_{i = s..t} (p_j/p0)^x_i · ((1−p_j)/(1−p0))^(n_i−x_i)  +  Σ_{s > t} w_s
//! ```
//!
//! over alternatives `p_j > p0` (weights `v_j` equal) and over the moments `s` at which a fault may
//! begin (`w_s = 1/((s+1)(s+2))`, which sum to 1; a moment that has not come yet holds its stake).
//! Each factor has an expectation of at most 1 under every `p ≤ p0`, so E is an e-process that
//! starts at 1, and by Ville's inequality (J. Ville, *Étude critique de la notion de collectif*,
//! 1939) it ever reaches `1/a` with a probability of at most `a`: one may look at it after every
//! bin. For mixtures see H. Robbins, "Statistical methods related to the law of the iterated
//! logarithm", 1970; for e-processes Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics
//! and safe anytime-valid inference", 2023. There are two soft signals, so each alarms at
//! `E ≥ 2/alpha`, and both together do so falsely with a probability of at most `alpha`. The sum
//! over beginnings is what keeps a fault that comes late from being buried under a good hour.
//!
//! What the bound does not cover: sessions that are hit together by something outside the release.
//! That is what `p0` is for. It comes from **placebo releases**: the same watch laid over past
//! moments without a release, `p0` = the 99.5 % quantile of their shares × 1.15. Where there is
//! not enough history a stated prior stands in.
//!
//! **Hard signals** (probes failing in a row, requests that hang, a dead game) count at once, also
//! while the herd of the reopening is left out of the soft ones.

mod evidence;

use serde::{Deserialize, Serialize};

use crate::UnixMs;
use evidence::{Evidence, bound};

/// The length of a bin of observations.
pub const BIN_MS: u64 = 10_000;
/// Soft evidence at this many times `alpha` is told as degraded.
const DEGRADED_FACTOR: f64 = 10.0;

/// What happened in one bin of [`BIN_MS`], testers left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BinFacts {
    /// When the bin began.
    pub at: UnixMs,
    /// Requests that arrived.
    pub requests: u64,
    /// Distinct sessions with a request.
    pub sessions: u64,
    /// Those of them that met an error.
    pub sessions_with_error: u64,
    /// Requests slower than their route's baseline p95. Counted up to the number of sessions, in
    /// the baseline as well, so that one session weighs no more than a bin's share.
    pub slow: u64,
    /// Requests that were answered, well or not.
    pub completed: u64,
    /// Requests under way when the bin ended.
    pub in_flight: u64,
}

/// A stream of observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Sessions that met an error.
    Errors,
    /// Sessions, against slow requests.
    Slowness,
}

impl Signal {
    const ALL: [Signal; 2] = [Signal::Errors, Signal::Slowness];

    /// Sessions seen and sessions hit.
    fn of(self, bin: &BinFacts) -> (u64, u64) {
        let hit = match self {
            Signal::Errors => bin.sessions_with_error,
            Signal::Slowness => bin.slow,
        };
        (bin.sessions, hit.min(bin.sessions))
    }
}

/// What a watch is told before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How probable a false alarm of the soft signals may be over the whole watch.
    pub alpha: f64,
    /// The share of sessions with an error that is taken for normal where history is missing.
    pub prior_errors: f64,
    /// The share of slow requests a session that is taken for normal where history is missing: a
    /// twentieth of requests is above p95 by its definition, and a session makes about three a bin.
    pub prior_slow: f64,
    /// How long after the opening the herd is left out of the soft signals.
    pub herd_ms: u64,
    /// How long after the opening the watch ends.
    pub watch_ms: u64,
    /// A watch that could not have seen a share of sessions this far above normal does not pass.
    pub effect_to_exclude: f64,
    /// Probes that fail in a row before that is a failure.
    pub probes_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            prior_errors: 0.02,
            prior_slow: 0.15,
            herd_ms: 5 * 60_000,
            watch_ms: 30 * 60_000,
            effect_to_exclude: 0.10,
            probes_max: 3,
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Too many sessions meet errors.
    Errors,
    /// Too many sessions wait.
    Slowness,
    /// Probes fail one after the other.
    Probe,
    /// Requests are under way and none is completed.
    Hang,
    /// The game does not run.
    Dead,
}

/// What the watch has to say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The watch is over, saw nothing, and would have seen an effect worth speaking of.
    Pass,
    /// Something is not as it was; not yet enough to speak of a failure. It may go away.
    Degraded {
        /// What.
        what: What,
        /// The share of sessions hit, or the number of probes failed.
        seen: f64,
        /// The most that is normal.
        expected: f64,
        /// Since when.
        since: UnixMs,
    },
    /// The release is bad. It stays so.
    Fail {
        /// What.
        what: What,
        /// The share of sessions hit, the number of probes failed, or of requests that hang.
        seen: f64,
        /// The most that is normal.
        expected: f64,
        /// Since when.
        since: UnixMs,
    },
    /// Nothing was seen, and either the watch is not over or too few players came to tell.
    Inconclusive {
        /// The smallest share of sessions with errors that would have been seen by now, nine times
        /// out of ten; nothing where not even an error in every session would have been.
        smallest_effect: Option<f64>,
    },
}

/// A watch over a release that was opened.
#[derive(Debug, Clone)]
pub struct Watch {
    opened: UnixMs,
    settings: Settings,
    streams: [Stream; 2],
    last: Option<BinFacts>,
    probes_failed: u32,
    probes_failing_since: UnixMs,
    failed: Option<Verdict>,
}

#[derive(Debug, Clone)]
struct Stream {
    signal: Signal,
    p0: f64,
    evidence: Evidence,
}

impl Watch {
    /// A watch over a release that was opened at `opened`. `baseline` are bins of the time before,
    /// in order, in which nothing was released.
    pub fn new(baseline: &[BinFacts], opened: UnixMs, settings: Settings) -> Self {
        let bins = usize::try_from(settings.watch_ms.saturating_sub(settings.herd_ms) / BIN_MS)
            .unwrap_or(usize::MAX);
        let streams = Signal::ALL.map(|signal| {
            let prior = match signal {
                Signal::Errors => settings.prior_errors,
                Signal::Slowness => settings.prior_slow,
            };
            let observed: Vec<(u64, u64)> = baseline.iter().map(|bin| signal.of(bin)).collect();
            let p0 = bound(&observed, bins.max(1), prior);
            Stream { signal, p0, evidence: Evidence::new(p0) }
        });
        Self {
            opened,
            settings,
            streams,
            last: None,
            probes_failed: 0,
            probes_failing_since: opened,
            failed: None,
        }
    }

    /// The bound that `signal` is held against: the share of sessions that is still normal.
    pub fn p0(&self, signal: Signal) -> f64 {
        self.stream(signal).p0
    }

    /// The evidence of `signal` against the release by now; 1 is none.
    pub fn evidence(&self, signal: Signal) -> f64 {
        self.stream(signal).evidence.value()
    }

    /// Takes the next bin. One that is not later than the last is left out: it was counted.
    pub fn observe(&mut self, bin: &BinFacts) {
        if bin.at < self.opened || self.last.is_some_and(|last| bin.at <= last.at) {
            return;
        }
        self.look_for_hang(bin);
        self.last = Some(*bin);
        if bin.at < self.opened + self.settings.herd_ms {
            return;
        }
        for at in 0..self.streams.len() {
            let (seen, hit) = self.streams[at].signal.of(bin);
            self.streams[at].evidence.observe(bin.at, seen, hit);
            if self.streams[at].evidence.value() >= self.threshold(1.0) {
                let (what, seen, expected, since) = self.streams[at].finding();
                self.fail(what, seen, expected, since);
            }
        }
    }

    /// Takes the outcome of a probe at `at`.
    pub fn probe(&mut self, at: UnixMs, passed: bool) {
        if passed {
            self.probes_failed = 0;
            return;
        }
        if self.probes_failed == 0 {
            self.probes_failing_since = at;
        }
        self.probes_failed = self.probes_failed.saturating_add(1);
        if self.probes_failed >= self.settings.probes_max {
            self.fail(What::Probe, f64::from(self.probes_failed), 0.0, self.probes_failing_since);
        }
    }

    /// Takes note that the game was found dead at `at`: its process gone, its port closed.
    pub fn dead(&mut self, at: UnixMs) {
        self.fail(What::Dead, 1.0, 0.0, at);
    }

    /// What there is to say at `now`.
    pub fn verdict(&self, now: UnixMs) -> Verdict {
        if let Some(failed) = self.failed {
            return failed;
        }
        if self.probes_failed > 0 {
            let (seen, since) = (f64::from(self.probes_failed), self.probes_failing_since);
            return Verdict::Degraded { what: What::Probe, seen, expected: 0.0, since };
        }
        let suspect =
            self.streams.iter().find(|one| one.evidence.value() >= self.threshold(DEGRADED_FACTOR));
        if let Some(stream) = suspect {
            let (what, seen, expected, since) = stream.finding();
            return Verdict::Degraded { what, seen, expected, since };
        }
        let errors = self.stream(Signal::Errors);
        let smallest_effect = errors.evidence.smallest_effect(self.threshold(1.0));
        let over = now.since(self.opened) >= self.settings.watch_ms;
        let excluded = |share: f64| share - errors.p0 <= self.settings.effect_to_exclude;
        if over && smallest_effect.is_some_and(excluded) {
            return Verdict::Pass;
        }
        Verdict::Inconclusive { smallest_effect }
    }

    /// The evidence that a signal alarms at, for `factor` times alpha.
    fn threshold(&self, factor: f64) -> f64 {
        2.0 / (factor * self.settings.alpha)
    }

    fn stream(&self, signal: Signal) -> &Stream {
        match signal {
            Signal::Errors => &self.streams[0],
            Signal::Slowness => &self.streams[1],
        }
    }

    /// A bin without any completed request, into which a request came over from the bin before and
    /// out of which it went on: it was under way for the whole of the ten seconds.
    fn look_for_hang(&mut self, bin: &BinFacts) {
        let Some(last) = self.last else { return };
        let follows = bin.at == last.at + BIN_MS;
        if follows && last.in_flight > 0 && bin.in_flight > 0 && bin.completed == 0 {
            let hanging = u32::try_from(bin.in_flight).unwrap_or(u32::MAX);
            self.fail(What::Hang, f64::from(hanging), 0.0, bin.at);
        }
    }

    /// The first failure is the one that is told.
    fn fail(&mut self, what: What, seen: f64, expected: f64, since: UnixMs) {
        self.failed.get_or_insert(Verdict::Fail { what, seen, expected, since });
    }
}

impl Stream {
    fn finding(&self) -> (What, f64, f64, UnixMs) {
        let what = match self.signal {
            Signal::Errors => What::Errors,
            Signal::Slowness => What::Slowness,
        };
        let (since, share) = self.evidence.strongest();
        (what, share, self.p0, since)
    }
}

#[cfg(test)]
mod tests;
