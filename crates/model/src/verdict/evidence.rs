//! The e-process of one stream, and the bound that it is held against.

use crate::UnixMs;

/// A fault may begin at every bin whose number is a multiple of this.
const BEGINNINGS_EVERY_BINS: u64 = 3;
/// The most beginnings that are kept; later faults count for the last of them. 2,048 of them are 17 hours.
const BEGINNINGS_MAX: usize = 2_048;
/// The alternatives, as multiples of the odds of `p0`.
const ODDS: [f64; 12] = [1.25, 1.5, 2.0, 2.5, 3.5, 5.0, 7.0, 10.0, 15.0, 25.0, 60.0, 200.0];
/// Placebo releases below which their quantile says nothing.
const PLACEBOS_MIN: usize = 200;
/// Of 1,000 placebo releases, how many lie at or below the quantile.
const QUANTILE_PER_MILLE: usize = 995;
/// How far above the quantile the bound is laid.
const MARGIN: f64 = 1.15;
/// The bound never lies below: a history without a single error does not make the first one an alarm.
const P0_MIN: f64 = 0.005;
/// The bound never lies above: something must be left to be seen.
const P0_MAX: f64 = 0.90;
/// The standard normal quantile of 90 %: how surely the smallest effect would have been seen.
const Z_POWER: f64 = 1.281_551_565_544_600_4;

/// What has been seen since one moment.
#[derive(Debug, Clone, Copy)]
struct Since {
    at: UnixMs,
    seen: u64,
    hit: u64,
}

/// The e-process of one stream.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    p0: f64,
    /// ln(p/p0) and ln((1−p)/(1−p0)) of each alternative.
    ratios: [(f64, f64); ODDS.len()],
    bins: u64,
    beginnings: Vec<Since>,
    value: f64,
}

impl Evidence {
    pub(super) fn new(p0: f64) -> Self {
        let ratios = ODDS.map(|factor| {
            let odds = factor * p0 / (1.0 - p0);
            let p = odds / (1.0 + odds);
            ((p / p0).ln(), ((1.0 - p) / (1.0 - p0)).ln())
        });
        Self { p0, ratios, bins: 0, beginnings: Vec::new(), value: 1.0 }
    }

    /// The evidence by now.
    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// Takes a bin that began at `at`, in which `hit` of `seen` sessions were hit.
    pub(super) fn observe(&mut self, at: UnixMs, seen: u64, hit: u64) {
        // A beginning is placed by the number of the bin alone, never by what is in it: a moment
        // chosen after a look at the data would take the guarantee away.
        if self.bins.is_multiple_of(BEGINNINGS_EVERY_BINS) && self.beginnings.len() < BEGINNINGS_MAX
        {
            self.beginnings.push(Since { at, seen: 0, hit: 0 });
        }
        self.bins += 1;
        for since in &mut self.beginnings {
            since.seen += seen;
            since.hit += hit;
        }
        let begun: f64 = self
            .weighed()
            .map(|(weight, since)| weight * self.mixture(since.seen, since.hit))
            .sum();
        self.value = begun + stake_left(self.beginnings.len());
    }

    /// The beginning that speaks loudest: when it was, and the share of sessions hit since.
    pub(super) fn strongest(&self) -> (UnixMs, f64) {
        let loudness =
            |(weight, since): &(f64, &Since)| weight * self.mixture(since.seen, since.hit);
        let best = self.weighed().max_by(|a, b| loudness(a).total_cmp(&loudness(b)));
        best.map_or((UnixMs(0), 0.0), |(_, since)| (since.at, share(since.seen, since.hit)))
    }

    /// The smallest share of sessions hit, over the whole time, that would have reached `threshold`
    /// by now in nine cases of ten (by the normal approximation of the binomial).
    pub(super) fn smallest_effect(&self, threshold: f64) -> Option<f64> {
        let seen = self.beginnings.first().map_or(0, |first| first.seen);
        let noticed = |p: f64| {
            let n = float(seen);
            let hit = (n * p - Z_POWER * (n * p * (1.0 - p)).sqrt()).max(0.0).floor();
            weight(0) * self.mixture_of(n, hit) >= threshold
        };
        if !noticed(1.0) {
            return None;
        }
        let (mut low, mut high) = (self.p0, 1.0);
        // Each round halves the distance: after 40 nothing of it is left to be shown.
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if noticed(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }

    fn weighed(&self) -> impl Iterator<Item = (f64, &Since)> {
        self.beginnings.iter().enumerate().map(|(at, since)| (weight(at), since))
    }

    fn mixture(&self, seen: u64, hit: u64) -> f64 {
        self.mixture_of(float(seen), float(hit))
    }

    /// The mean of the likelihood ratios of all alternatives; endless where it is beyond a float,
    /// which is an alarm like every other large value.
    fn mixture_of(&self, seen: f64, hit: f64) -> f64 {
        let total: f64 =
            self.ratios.iter().map(|(up, down)| (hit * up + (seen - hit) * down).exp()).sum();
        total / float(u64::try_from(ODDS.len()).unwrap_or(1))
    }
}

/// The stake on beginning number `at`, from 0. All stakes together are 1.
fn weight(at: usize) -> f64 {
    let s = float(u64::try_from(at).unwrap_or(u64::MAX));
    1.0 / ((s + 1.0) * (s + 2.0))
}

/// The stakes of the beginnings from `from` on: the sum of 1/((s+1)(s+2)) telescopes.
fn stake_left(from: usize) -> f64 {
    1.0 / (float(u64::try_from(from).unwrap_or(u64::MAX)) + 1.0)
}

/// The bound for a stream: from every placebo release of `bins` bins within `observed` (sessions
/// and hits, in order) where there are enough of them, else `prior`.
pub(super) fn bound(observed: &[(u64, u64)], bins: usize, prior: f64) -> f64 {
    let mut shares: Vec<f64> = observed
        .windows(bins)
        .map(|window| window.iter().fold((0, 0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1)))
        .filter(|(seen, _)| *seen > 0)
        .map(|(seen, hit)| share(seen, hit))
        .collect();
    if shares.len() < PLACEBOS_MIN {
        return prior.clamp(P0_MIN, P0_MAX);
    }
    shares.sort_by(f64::total_cmp);
    // The rank is rounded up, so that at least the stated part lies at or below it.
    let rank = (shares.len() * QUANTILE_PER_MILLE).div_ceil(1_000).max(1);
    (shares[rank - 1] * MARGIN).clamp(P0_MIN, P0_MAX)
}

fn share(seen: u64, hit: u64) -> f64 {
    if seen == 0 { 0.0 } else { float(hit) / float(seen) }
}

/// Exact below 2^53, which no count of sessions reaches.
fn float(count: u64) -> f64 {
    count as f64
}
