//! From one state to the next: by a goal, by time, by the ramp. Written first, acted upon then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entracte_model::UnixMs;
use entracte_model::gate::{self, Goal, Phase, State};

use super::{Core, SetError, Steady, due_instant, elapsed_ms, now};
use crate::error::GateError;
use crate::in_flight::InFlight;
use crate::waiting_room::{Reopening, slow_from_ms};

/// The wall clock runs a little faster or slower than the other; from here on it has jumped.
const JUMP_MS_LEAST: u64 = 2_000;

impl Core {
    /// Puts a goal in force: accepted, written, synced, and only then acted upon.
    pub(crate) async fn set(self: &Arc<Self>, goal: &Goal) -> Result<(), SetError> {
        let _one_at_a_time = self.writer.lock().await;
        let (held, at) = self.held();
        let next = gate::accept(&held, goal, at)?;
        if next != held {
            self.write(&next).await?;
            self.act(next);
        }
        Ok(())
    }

    /// The state, and the moment by the wall clock. Where that has jumped since the state began, the
    /// state says its beginning by the new clock: how long it has lasted stays what it is.
    fn held(&self) -> (State, UnixMs) {
        let inner = self.inner();
        let (mut state, at) = (inner.state.clone(), now());
        let lasted_ms = inner.told.now().since(state.since);
        let by_clock_ms = at.since(state.since);
        if at < state.since || lasted_ms.abs_diff(by_clock_ms) > JUMP_MS_LEAST {
            state.since = UnixMs(at.0.saturating_sub(i64::try_from(lasted_ms).unwrap_or(i64::MAX)));
        }
        (state, at)
    }

    /// As long as this is held, no goal is taken and time moves nothing on.
    pub(crate) async fn hold_still(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.writer.lock().await
    }

    /// The state, and how many were put in force before it.
    pub(crate) fn state(&self) -> (u64, State) {
        let inner = self.inner();
        (inner.acts, inner.state.clone())
    }

    /// Does what the successor did: it wrote the state down.
    pub(crate) fn follow(self: &Arc<Self>, state: State) {
        self.act(state);
    }

    async fn write(self: &Arc<Self>, state: &State) -> Result<(), GateError> {
        let (core, state) = (Arc::clone(self), state.clone());
        let written = tokio::task::spawn_blocking(move || core.state_file.save(&state)).await;
        written.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Moves on where time says so. `from` is the phase that was seen when the time was computed.
    pub(crate) async fn move_on(self: &Arc<Self>, from: Phase, to: Phase) -> Result<(), GateError> {
        let _one_at_a_time = self.writer.lock().await;
        let held = self.inner().state.clone();
        if held.phase == from {
            let next = held.moved_to(to, now());
            self.write(&next).await?;
            self.act(next);
        }
        Ok(())
    }

    pub(super) fn act(self: &Arc<Self>, next: State) {
        let phase = next.phase;
        let mut turned_away = Vec::new();
        let release = {
            let mut inner = self.inner();
            inner.due = due_instant(&next);
            inner.told = Steady::begin();
            let reopening_goes_on = inner.reopening.is_some() && phase == Phase::Reopening;
            if !reopening_goes_on {
                let peak = inner.bins.peak_new_per_s();
                let slow = slow_from_ms(inner.bins.usual_p95_ms());
                let step_ms = self.config.limits.ramp_step_ms;
                inner.reopening = (phase == Phase::Reopening)
                    .then(|| Reopening::new(next.goal.generation, peak, step_ms, slow));
            }
            inner.state = next;
            inner.acts += 1;
            if phase == Phase::Closed {
                turned_away.extend(std::iter::from_fn(|| inner.park.first()));
            }
            let release = !phase.is_fenced() && inner.park.len() > 0 && !inner.releasing;
            inner.releasing |= release;
            release
        };
        // A sender dropped without a word sends its request to the page.
        drop(turned_away);
        if phase.is_fenced() {
            self.pool.clear();
        }
        self.phase.send_replace(phase);
        if release {
            tokio::spawn(Arc::clone(self).release());
        }
    }

    /// Lets the parked go, in their order, as long as the gate stays open for them: at once what the
    /// game is used to, the others one after another.
    async fn release(self: Arc<Self>) {
        let pause = Duration::from_secs(1) / self.config.limits.release_per_s.max(1);
        let at_once = {
            let inner = self.inner();
            gate::let_go_at_once(inner.park.len(), inner.bins.requests_per_s())
        };
        for _ in 0..at_once {
            if !self.let_one_go() {
                return;
            }
        }
        let mut turn = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if !self.let_one_go() {
                return;
            }
        }
    }

    /// Lets the one go who waits longest. False where nobody waits, or the gate holds again.
    fn let_one_go(self: &Arc<Self>) -> bool {
        let (sender, guard) = {
            let mut inner = self.inner();
            let next = if inner.state.phase.is_fenced() { None } else { inner.park.first() };
            let Some(sender) = next else {
                inner.releasing = false;
                return false;
            };
            inner.in_flight += 1;
            (sender, InFlight::released(self))
        };
        // A client that left in this moment drops the guard, which takes it out of flight.
        drop(sender.send(guard));
        true
    }

    /// When time moves the gate on, from which phase, and to which.
    pub(crate) fn due(&self) -> Option<(Instant, Phase, Phase)> {
        let inner = self.inner();
        inner.due.map(|(at, to)| (at, inner.state.phase, to))
    }

    /// Lets newcomers in and judges the ramp's step. True where the ramp is done.
    pub(crate) fn step_ramp(&self) -> bool {
        let mut inner = self.inner();
        let Some(reopening) = &mut inner.reopening else { return false };
        reopening.serve();
        let elapsed = elapsed_ms(reopening.began);
        if elapsed < reopening.ramp.step_ends_ms() {
            return false;
        }
        let seen = reopening.take_seen();
        reopening.ramp.step(elapsed, seen)
    }
}
