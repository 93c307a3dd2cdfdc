//! How fast newcomers are let in after a closing.
//!
//! A game that was just started has cold caches. The first newcomers come at a tenth of the
//! greatest rate that the game is known to bear; every ten seconds without trouble the rate is
//! doubled, and with trouble it is halved, until the known rate is reached and nobody waits.

use serde::{Deserialize, Serialize};

/// The numbers of a ramp.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RampPace {
    /// The share of the peak rate to begin with.
    pub first_share: f64,
    /// How long one rate lasts, in milliseconds.
    pub step_ms: u64,
    /// The share of requests answered with 5xx from which the rate is halved.
    pub error_share_max: f64,
    /// The slowest rate, in newcomers a second.
    pub least_per_s: f64,
    /// The peak rate assumed where no traffic was seen yet, in newcomers a second.
    pub peak_default_per_s: f64,
    /// How many newcomers may come in at once after a pause.
    pub burst: f64,
}

impl Default for RampPace {
    fn default() -> Self {
        Self {
            first_share: 0.1,
            step_ms: 10_000,
            error_share_max: 0.01,
            least_per_s: 0.5,
            peak_default_per_s: 20.0,
            burst: 1.0,
        }
    }
}

/// What was seen during one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RampInput {
    /// Requests that the game answered.
    pub requests: u64,
    /// Those answered with 5xx.
    pub errors: u64,
    /// Newcomers who wait.
    pub waiting: u64,
}

/// A ramp that is going on. Time is given as milliseconds since its start, by a monotonic clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Ramp {
    pace: RampPace,
    peak_per_s: f64,
    rate_per_s: f64,
    credit: f64,
    credited_ms: u64,
    step_ends_ms: u64,
}

impl Ramp {
    /// A ramp towards `peak_per_s` newcomers a second (`None`: not known).
    pub fn new(pace: RampPace, peak_per_s: Option<f64>) -> Self {
        let known = peak_per_s.filter(|p| p.is_finite() && *p > 0.0);
        let peak_per_s = known.unwrap_or(pace.peak_default_per_s).max(pace.least_per_s);
        let rate_per_s = (peak_per_s * pace.first_share).max(pace.least_per_s);
        Self {
            pace,
            peak_per_s,
            rate_per_s,
            credit: pace.burst,
            credited_ms: 0,
            step_ends_ms: pace.step_ms,
        }
    }

    /// The rate now, in newcomers a second.
    pub fn rate_per_s(&self) -> f64 {
        self.rate_per_s
    }

    /// Takes one place for a newcomer, if the rate allows one at `elapsed_ms`.
    pub fn take(&mut self, elapsed_ms: u64) -> bool {
        let passed_ms = elapsed_ms.saturating_sub(self.credited_ms);
        self.credited_ms = self.credited_ms.max(elapsed_ms);
        // A pause must not be saved up and spent as a herd.
        let ceiling = self.pace.burst.max(self.rate_per_s / 4.0);
        self.credit = (self.credit + self.rate_per_s * millis(passed_ms) / 1_000.0).min(ceiling);
        let free = self.credit >= 1.0;
        if free {
            self.credit -= 1.0;
        }
        free
    }

    /// When the next step is judged, in milliseconds since the start.
    pub fn step_ends_ms(&self) -> u64 {
        self.step_ends_ms
    }

    /// Ends a step: the rate doubles or halves. True when the ramp is done.
    pub fn step(&mut self, elapsed_ms: u64, seen: RampInput) -> bool {
        self.step_ends_ms = elapsed_ms + self.pace.step_ms;
        let troubled =
            seen.errors > 0 && share(seen.errors, seen.requests) >= self.pace.error_share_max;
        if troubled {
            self.rate_per_s = (self.rate_per_s / 2.0).max(self.pace.least_per_s);
            return false;
        }
        if self.rate_per_s >= self.peak_per_s && seen.waiting == 0 {
            return true;
        }
        self.rate_per_s *= 2.0;
        false
    }

    /// How long `ahead` newcomers take at the present rate, in seconds, at least 1.
    pub fn wait_s(&self, ahead: u64) -> u64 {
        let mut left = millis(ahead);
        let (mut rate, mut waited_s) = (self.rate_per_s, 0.0);
        let step_s = millis(self.pace.step_ms) / 1_000.0;
        // As if every step went well; at most 40 doublings pass 2^40 people.
        for _ in 0..40 {
            if left <= rate * step_s {
                break;
            }
            left -= rate * step_s;
            waited_s += step_s;
            rate *= 2.0;
        }
        whole(waited_s + left / rate).max(1)
    }
}

fn share(part: u64, of: u64) -> f64 {
    millis(part) / millis(of.max(1))
}

/// Counts here stay far below 2^52, where a float is exact.
fn millis(n: u64) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(seconds: f64) -> u64 {
    // A float-to-integer cast saturates, so no value of `seconds` can wrap.
    seconds.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(waiting: u64) -> RampInput {
        RampInput { requests: 1_000, errors: 9, waiting }
    }

    #[test]
    fn the_rate_starts_at_a_tenth_doubles_when_calm_and_halves_in_trouble() {
        let mut ramp = Ramp::new(RampPace::default(), Some(50.0));
        assert_eq!(ramp.rate_per_s(), 5.0);
        assert!(!ramp.step(10_000, calm(3)));
        assert_eq!(ramp.rate_per_s(), 10.0);
        assert!(!ramp.step(20_000, RampInput { requests: 1_000, errors: 10, waiting: 3 }));
        assert_eq!(ramp.rate_per_s(), 5.0);
        for _ in 0..20 {
            ramp.step(30_000, RampInput { requests: 1, errors: 1, waiting: 0 });
        }
        assert_eq!(ramp.rate_per_s(), RampPace::default().least_per_s);
    }

    #[test]
    fn it_is_done_at_the_peak_when_nobody_waits() {
        let mut ramp = Ramp::new(RampPace::default(), Some(50.0));
        let done: Vec<bool> = (1..=5).map(|step| ramp.step(step * 10_000, calm(0))).collect();
        assert_eq!(done, [false, false, false, false, true]);
        let mut queue = Ramp::new(RampPace::default(), Some(50.0));
        assert!((1..=9).all(|step| !queue.step(step * 10_000, calm(1))));
    }

    #[test]
    fn places_follow_the_rate_and_a_pause_is_not_saved_up() {
        let mut ramp = Ramp::new(RampPace::default(), Some(20.0));
        let in_a_second = (0..1_000).filter(|&ms| ramp.take(ms)).count();
        assert!((2..=3).contains(&in_a_second), "{in_a_second} came in at 2 a second");
        let after_a_minute = (0..100).filter(|_| ramp.take(61_000)).count();
        assert_eq!(after_a_minute, 1);
    }

    #[test]
    fn the_wait_counts_on_doubling_and_never_is_nothing() {
        let ramp = Ramp::new(RampPace::default(), Some(20.0));
        assert_eq!(ramp.wait_s(0), 1);
        assert_eq!(ramp.wait_s(10), 5);
        assert_eq!(ramp.wait_s(40), 15);
        assert!(ramp.wait_s(u64::MAX) < 400);
    }

    #[test]
    fn an_unknown_or_absurd_peak_falls_back_to_the_default() {
        for peak in [None, Some(0.0), Some(f64::NAN), Some(-3.0)] {
            assert_eq!(Ramp::new(RampPace::default(), peak).rate_per_s(), 2.0);
        }
    }
}
