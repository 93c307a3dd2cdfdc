//! The waiting room of a reopening: numbers are drawn, and called at the ramp's rate.

use std::time::Instant;

use entracte_model::gate::{Ramp, RampPace};

use crate::core::elapsed_ms;
use crate::tokens::Place;

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
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

impl Reopening {
    pub(crate) fn new(epoch: u64, peak_per_s: Option<f64>, step_ms: u64) -> Self {
        let pace = RampPace { step_ms: step_ms.max(1), ..RampPace::default() };
        let ramp = Ramp::new(pace, peak_per_s);
        Self { ramp, began: Instant::now(), epoch, next: 0, served: 0, requests: 0, errors: 0 }
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
    fn numbers_are_called_in_order_and_a_forged_one_is_not() {
        let mut room = Reopening::new(7, Some(5.0), 10_000);
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
