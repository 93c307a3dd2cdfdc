//! The connections of clients: how many there may be, and who makes room for newcomers.
//!
//! A client that sends half a head and waits costs a place until its time is over. Whoever opens
//! such connections faster than that would keep everybody else out. So where all places are taken,
//! those make room who have waited longest and for whom nobody works: first connections that owe a
//! head, then those that are kept without a request. A request that is being answered is never cut
//! for this.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::conn::{ConnClock, Waits};

/// Whoever owes a head for less than this is taken for a client that is about to send it.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
/// How long it takes until it is looked again who can make room.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How many make room at once, as a share of those who can: looking at all of them for each
/// newcomer would cost more than the newcomer.
const MAKE_ROOM_SHARE: usize = 16;
/// Ended connections are forgotten when there are so many more of them than of living ones.
const ENDED_MAX: usize = 64;

/// All connections of clients.
pub(crate) struct Crowd {
    room: Arc<Semaphore>,
    tasks: JoinSet<()>,
    all: Vec<(AbortHandle, Arc<ConnClock>)>,
}

impl Crowd {
    pub(crate) fn new(connections_max: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { room, tasks: JoinSet::new(), all: Vec::new() }
    }

    /// A place for one more; waits where nobody can make room.
    pub(crate) async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
                return Some(place);
            }
            self.make_room(Instant::now());
            // Closed never: it lives as long as this.
            if let Ok(place) = timeout(LOOK_AGAIN, Arc::clone(&self.room).acquire_owned()).await {
                return place.ok();
            }
        }
    }

    /// Serves one more.
    pub(crate) fn add(
        &mut self,
        clock: Arc<ConnClock>,
        served: impl Future<Output = ()> + Send + 'static,
    ) {
        while self.tasks.try_join_next().is_some() {}
        if self.all.len() > 2 * self.tasks.len() + ENDED_MAX {
            self.all.retain(|(task, _)| !task.is_finished());
        }
        self.all.push((self.tasks.spawn(served), clock));
    }

    /// Waits until all have ended.
    pub(crate) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Cuts those who have waited longest, of those who can be cut.
    fn make_room(&mut self, now: Instant) {
        self.all.retain(|(task, _)| !task.is_finished());
        let waits: Vec<Waits> = self.all.iter().map(|(_, clock)| clock.waits()).collect();
        for at in who_makes_room(&waits, now) {
            self.all[at].0.abort();
        }
    }
}

/// Which of the connections make room: of those that owe a head for too long the longest; where
/// there are none, of the idle ones, unless more than those still have to send their head.
fn who_makes_room(waits: &[Waits], now: Instant) -> Vec<usize> {
    let (mut heads, mut late, mut idle) = (0, Vec::new(), Vec::new());
    for (at, waits) in waits.iter().enumerate() {
        match *waits {
            Waits::Head(since) => {
                heads += 1;
                if now.saturating_duration_since(since) >= HEAD_PATIENCE {
                    late.push((since, at));
                }
            }
            Waits::Idle(since) => idle.push((since, at)),
            Waits::No => {}
        }
    }
    let mut can = match late.is_empty() {
        false => late,
        true if heads > idle.len() => Vec::new(),
        true => idle,
    };
    can.sort_unstable();
    can.truncate(can.len().div_ceil(MAKE_ROOM_SHARE));
    can.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_those_who_owe_a_head_go_first_and_nobody_who_is_answered() {
        let start = Instant::now();
        let now = start + Duration::from_secs(60);
        let at = |s: u64| start + Duration::from_secs(s);
        let who = |waits: &[Waits]| who_makes_room(waits, now);
        let (head, idle, busy) = (Waits::Head, Waits::Idle, Waits::No);
        assert_eq!(who(&[busy, idle(at(1)), head(at(9)), head(at(8)), busy]), [3]);
        assert_eq!(who(&[busy, idle(at(2)), idle(at(1)), head(now)]), [2]);
        // They are about to send it, or will be late in a moment.
        assert!(who(&[idle(at(1)), head(now), head(now)]).is_empty());
        assert!(who(&[busy, busy]).is_empty() && who(&[]).is_empty());
        let many: Vec<Waits> = (0..32).map(|s| head(at(31 - s))).collect();
        assert_eq!(who(&many), [31, 30]);
    }
}
