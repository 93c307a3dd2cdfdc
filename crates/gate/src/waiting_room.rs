//! The waiting room of a reopening: numbers are drawn, and called at the ramp's rate.

use std::time::Instant;

use entracte_model::gate::{Ramp, RampInput, RampPace};

use crate::bins::Ended;
use crate::core::elapsed_ms;
use crate::tokens::Place;

/// An answer is slow from twice the time on that the 95th percentile used to take.
const SLOW_TIMES: u64 = 2;
/// No answer that came within this time is slow, however quick they used to be, in milliseconds.
const SLOW_MS_LEAST: u64 = 100;
/// From one slow answer in so many on, the game suffers: its 95th percentile has doubled.
const SLOW_ONE_IN: u64 = 20;

/// From how many milliseconds on an answer is slow, for a game that used to give 95 of 100 answers
/// within `usual_p95_ms`. A game that nobody knows yet is never slow.
pub(crate) fn slow_from_ms(usual_p95_ms: Option<u64>) -> u64 {
    usual_p95_ms.map_or(u64::MAX, |p95| p95.saturating_mul(SLOW_TIMES).max(SLOW_MS_LEAST))
}

/// A reopening that is going on.
#[derive(Debug)]
pub(crate) struct Reopening {
    pub(crate) ramp: Ramp,
    pub(crate) began: Instant,
    pub(crate) epoch: u64,
    /// The number that the next newcomer gets.
    next: u64,
    /// Numbers below this one may come in.
    pub(crate) served: u64,
    /// From here on an answer is slow.
    slow_from_ms: u64,
    requests: u64,
    errors: u64,
    slow: u64,
}

impl Reopening {
    pub(crate) fn new(
        epoch: u64,
        peak_per_s: Option<f64>,
        step_ms: u64,
        slow_from_ms: u64,
    ) -> Self {
        let pace = RampPace { step_ms: step_ms.max(1), ..RampPace::default() };
        let ramp = Ramp::new(pace, peak_per_s);
        Self {
            ramp,
            began: Instant::now(),
            epoch,
            next: 0,
            served: 0,
            slow_from_ms,
            requests: 0,
            errors: 0,
            slow: 0,
        }
    }

    /// A request of a player ended in the game.
    pub(crate) fn ended(&mut self, how: Ended) {
        let (failed, slow) = match how {
            Ended::Answered { status, latency_ms } => {
                (status >= 500, latency_ms >= self.slow_from_ms)
            }
            Ended::Unreachable => (true, false),
            // Whoever gives up on a slow game must not make it look quick.
            Ended::Abandoned => return,
        };
        self.requests += 1;
        self.errors += u64::from(failed);
        self.slow += u64::from(slow);
    }

    /// What was seen since this was asked last. A game that became slow counts as one that fails: the
    /// ramp halves for both.
    pub(crate) fn take_seen(&mut self) -> RampInput {
        let requests = std::mem::take(&mut self.requests);
        let errors = std::mem::take(&mut self.errors);
        let suffers = std::mem::take(&mut self.slow) * SLOW_ONE_IN > requests;
        RampInput {
            requests,
            errors: if suffers { requests } else { errors },
            waiting: self.waiting(),
        }
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.next - self.served
    }

    /// Lets in as many of those who wait as the rate allows.
    pub(crate) fn serve(&mut self) {
        let elapsed = elapsed_ms(self.began);
        while self.served < self.next && self.ramp.take(elapsed) {
            self.served += 1;
        }
    }

    /// Lets a newcomer in, or gives it a place. Places are given to browsers only: a client that
    /// keeps no cookie would take a new place with each try.
    pub(crate) fn arrive(
        &mut self,
        held: Option<Place>,
        keeps_cookies: bool,
    ) -> Result<(), Option<Place>> {
        self.serve();
        if let Some(place) =
            held.filter(|place| place.epoch == self.epoch && place.number < self.next)
        {
            return if place.number < self.served { Ok(()) } else { Err(Some(place)) };
        }
        if self.waiting() == 0 && self.ramp.take(elapsed_ms(self.began)) {
            self.next += 1;
            self.served += 1;
            return Ok(());
        }
        if !keeps_cookies {
            return Err(None);
        }
        let place = Place { epoch: self.epoch, number: self.next };
        self.next += 1;
        Err(Some(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_answer_in_twenty_is_normal_and_more_are_trouble() {
        let mut room = Reopening::new(1, None, 10_000, slow_from_ms(Some(80)));
        let answers = |room: &mut Reopening, count: u64, latency_ms: u64| {
            for _ in 0..count {
                room.ended(Ended::Answered { status: 200, latency_ms });
            }
            room.ended(Ended::Abandoned);
        };
        answers(&mut room, 19, 159);
        answers(&mut room, 1, 160);
        assert_eq!(room.take_seen(), RampInput { requests: 20, errors: 0, waiting: 0 });
        answers(&mut room, 18, 5);
        answers(&mut room, 2, 160);
        assert_eq!(room.take_seen(), RampInput { requests: 20, errors: 20, waiting: 0 });
        room.ended(Ended::Unreachable);
        assert_eq!(room.take_seen(), RampInput { requests: 1, errors: 1, waiting: 0 });
        assert_eq!((slow_from_ms(Some(3)), slow_from_ms(None)), (SLOW_MS_LEAST, u64::MAX));
    }

    #[test]
    fn numbers_are_called_in_order_and_a_forged_one_is_not() {
        let mut room = Reopening::new(7, Some(5.0), 10_000, u64::MAX);
        assert_eq!(room.arrive(None, true), Ok(()), "nobody was before");
        let first = room.arrive(None, true).unwrap_err().unwrap();
        let second = room.arrive(None, true).unwrap_err().unwrap();
        assert!(first.number < second.number);
        assert_eq!(
            room.arrive(Some(first), true),
            Err(Some(first)),
            "asking twice draws no new number"
        );
        let drawn = room.next;
        assert_eq!(room.arrive(None, false), Err(None), "a program draws no number");
        assert_eq!(room.next, drawn);
        // A number of another reopening, and one that nobody drew yet, count as none.
        for stale in [Place { epoch: 6, number: 0 }, Place { epoch: 7, number: 99 }] {
            let fresh = room.arrive(Some(stale), true).unwrap_err().unwrap();
            assert_eq!(fresh.epoch, 7);
            assert!(fresh.number >= drawn && fresh.number < 99);
        }
        room.served = second.number;
        assert_eq!(room.arrive(Some(first), true), Ok(()));
        assert!(room.arrive(Some(second), true).is_err());
    }
}
