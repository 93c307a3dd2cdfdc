//! The engine: asks `model` what is next, does it, writes it down.
//!
//! It takes no decision of its own. Its one loop is the same for a first run, for a run after a
//! crash, and for taking a release back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_host::lock::{Lock, LockError, Owner};
use entracte_model::journal::{Event, Fault, FaultKind, Level, Outcome, Question};
use entracte_model::plan::{ReleaseId, Step, StepId};
use entracte_model::progress::{
    IllegalEntry, Next, Probe, Progress, Seen, StepState, decide, fold,
};
use serde_json::Value;

use crate::context::Context;
use crate::fault::broken;
use crate::reserve;
use crate::steps::{act, fence_again};
use crate::store::{Store, StoreError};
use crate::target::Target;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// The release is over.
    Finished(Outcome),
    /// The release waits for a person; the gate stays as it is.
    Asked(Question),
}

/// Why a release could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another release runs, or somebody else works on this production.
    #[error("another release is at work")]
    Busy(#[source] LockError),
    /// The journal cannot be kept, so nothing may be done.
    #[error("the journal cannot be kept")]
    Store(#[from] StoreError),
    /// The journal makes no sense.
    #[error("the journal of {id} makes no sense")]
    Journal {
        /// The release.
        id: ReleaseId,
        /// Where.
        #[source]
        source: IllegalEntry,
    },
    /// Made by a newer program.
    #[error("{id} has a plan of format {found}; this program carries out format {known}")]
    NewerPlan {
        /// The release.
        id: ReleaseId,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
}

/// What somebody may ask of a run while it goes on, or when it takes a release up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Take the release back, if players are not in yet.
    pub abort: bool,
    /// Try again what could not be undone.
    pub retry: bool,
}

/// Carries out, or on with, the release `id`. Holds the lock of the production meanwhile.
///
/// `stop` is set by a signal: the release is then taken back from the next safe point.
pub fn run(
    target: &Target,
    id: ReleaseId,
    wishes: Wishes,
    stop: &Arc<AtomicBool>,
) -> Result<Ended, EngineError> {
    let _lock =
        Lock::try_take(&target.lock(), &Owner::this(&id.to_string())).map_err(EngineError::Busy)?;
    let store = Store::open_existing(&target.store())?;
    let release = store.release(id)?;
    let known = entracte_model::plan::FORMAT;
    if release.plan.format > known {
        return Err(EngineError::NewerPlan { id, found: release.plan.format, known });
    }
    store.verify_chain(id)?;
    let log = store.entries(id, 0)?;
    let progress =
        fold(&release.plan, &log).map_err(|source| EngineError::Journal { id, source })?;
    if let Some(outcome) = &progress.outcome {
        return Ok(Ended::Finished(outcome.clone()));
    }
    let mut run = Run {
        cx: Context::new(target, release.plan, store, Arc::clone(stop)),
        progress,
        no_room: None,
        window_unproven: false,
    };
    run.begin(wishes)?;
    run.go()
}

struct Run<'a> {
    cx: Context<'a>,
    progress: Progress,
    /// The journal met a full disk, and goes on in the room that was kept for the way back.
    no_room: Option<Fault>,
    /// Another runner closed the game and died. Since then the machine may have been started anew,
    /// and the workers with it.
    window_unproven: bool,
}

impl Run<'_> {
    fn begin(&mut self, wishes: Wishes) -> Result<(), EngineError> {
        if self.progress.runners == 0 {
            // Where there is no room for it, preflight says so and nothing is begun.
            let _ = reserve::keep(&self.cx.target.state);
        }
        self.window_unproven = self.progress.runners > 0;
        let began =
            Event::Began { pid: std::process::id(), tool: env!("CARGO_PKG_VERSION").to_owned() };
        self.write(&began)?;
        if wishes.retry {
            self.write(&Event::Retried {})?;
        }
        if wishes.abort && !self.progress.crossed(&self.cx.plan.clone()) {
            self.write(&Event::AbortRequested { by: "entracte abort".into() })?;
        }
        Ok(())
    }

    fn go(&mut self) -> Result<Ended, EngineError> {
        let mut seen: Option<Probe> = None;
        loop {
            self.notice_stop()?;
            let plan = self.cx.plan.clone();
            match decide(&plan, &self.progress, seen.take().as_ref()) {
                Next::Run(id) => self.run_step(id)?,
                Next::Probe(id) => seen = Some(self.probe(id)),
                Next::Record(step, Seen::Done(receipt)) => {
                    self.write(&Event::Done { step, receipt })?;
                }
                Next::Record(step, Seen::Failed(fault)) => {
                    self.write(&Event::Failed { step, fault })?;
                }
                Next::Undo(id) => self.undo(id)?,
                Next::Ask(question) => {
                    self.write(&Event::Asked { question: question.clone() })?;
                    return Ok(Ended::Asked(question));
                }
                Next::Finish(outcome) => {
                    self.write(&Event::Finished { outcome: outcome.clone() })?;
                    return Ok(Ended::Finished(outcome));
                }
                Next::Finished(outcome) => return Ok(Ended::Finished(outcome)),
            }
        }
    }

    /// A signal becomes an entry, once, and only while it can still mean something.
    fn notice_stop(&mut self) -> Result<(), EngineError> {
        let asked = self.cx.stop.load(Ordering::SeqCst);
        if asked && self.progress.abort.is_none() && !self.progress.crossed(&self.cx.plan.clone()) {
            self.write(&Event::AbortRequested { by: "a signal".into() })?;
        }
        Ok(())
    }

    fn run_step(&mut self, id: StepId) -> Result<(), EngineError> {
        let Some(act) = self.cx.plan.step(id).map(act) else { return Ok(()) };
        self.cx.enter(id);
        if let Some(fault) = self.out_of_room() {
            return self.fail(id, fault);
        }
        // An interrupted step goes on from what was true before it first began.
        let before = match &self.progress.steps[id.0] {
            StepState::Interrupted { before } => before.clone(),
            _ => match act.before(&mut self.cx) {
                Ok(before) => before,
                Err(fault) => return self.fail(id, fault),
            },
        };
        self.write(&Event::Started { step: id, before: before.clone() })?;
        crash("started", id);
        if let Some(fault) = self.out_of_room() {
            return self.fail(id, fault);
        }
        if let Err(fault) = self.prove_window(id) {
            return self.fail(id, fault);
        }
        match act.run(&mut self.cx, &before) {
            Ok(receipt) => {
                crash("effect", id);
                self.write(&Event::Done { step: id, receipt })?;
                crash("done", id);
                Ok(())
            }
            Err(fault) => self.fail(id, fault),
        }
    }

    /// Before anything goes on inside a window that a dead runner left, nobody writes: again.
    fn prove_window(&mut self, id: StepId) -> Result<(), Fault> {
        let step = self.cx.plan.step(id);
        if matches!(step, Some(Step::Close {} | Step::Hold { .. })) {
            // It brings the proof itself.
            self.window_unproven = false;
        }
        if step.is_some_and(Step::in_window) && std::mem::take(&mut self.window_unproven) {
            fence_again(&mut self.cx)?;
        }
        Ok(())
    }

    fn fail(&mut self, step: StepId, fault: Fault) -> Result<(), EngineError> {
        // A step that fails because it was told to stop says so; the signal is written down first.
        if fault.kind == FaultKind::Stopped {
            self.notice_stop()?;
        }
        self.write(&Event::Failed { step, fault })
    }

    /// Why nothing more is begun, where the journal itself met a full disk. Once players are in,
    /// there is no way back to keep room for: what is left is done as far as it goes.
    fn out_of_room(&mut self) -> Option<Fault> {
        let fault = self.no_room.take()?;
        if self.progress.crossed(&self.cx.plan.clone()) {
            self.cx.say(Level::Warning, fault.message);
            return None;
        }
        Some(fault)
    }

    fn before_of(&self, id: StepId) -> Value {
        self.progress.steps[id.0].before().cloned().unwrap_or(Value::Null)
    }

    fn probe(&mut self, id: StepId) -> Probe {
        let before = self.before_of(id);
        let Some(act) = self.cx.plan.step(id).map(act) else { return Probe::NotDone };
        self.cx.enter(id);
        act.probe(&mut self.cx, &before)
    }

    fn undo(&mut self, id: StepId) -> Result<(), EngineError> {
        let before = self.before_of(id);
        let Some(act) = self.cx.plan.step(id).map(act) else { return Ok(()) };
        self.cx.enter(id);
        // What undoing has to write (the gate's state, a rollback point) finds some room.
        reserve::give_up(&self.cx.target.state);
        self.write(&Event::UndoStarted { step: id })?;
        crash("undo-started", id);
        match act.undo(&mut self.cx, &before) {
            Ok(()) => {
                crash("undo-effect", id);
                self.write(&Event::Undone { step: id })
            }
            Err(fault) => {
                self.cx.say(Level::Alarm, "a person is needed: this could not be undone");
                self.write(&Event::UndoFailed { step: id, fault })
            }
        }
    }

    /// Writes an event down and takes it into the progress: the journal is the only state.
    fn write(&mut self, event: &Event) -> Result<(), EngineError> {
        let now = crate::clock::now();
        // What a step said or reported meanwhile is in the store already; it changes no state.
        let entry = match self.cx.store.append(&self.cx.plan, now, event) {
            Err(error) if error.wants_room() && reserve::give_up(&self.cx.target.state) => {
                let state = self.cx.target.state.display();
                let hint = format!("make room on the file system of {state}");
                self.no_room = Some(broken("writing the journal", &error).hint(hint));
                self.cx.store.append(&self.cx.plan, now, event)?
            }
            appended => appended?,
        };
        let id = self.cx.plan.id;
        self.progress.take(&entry).map_err(|source| EngineError::Journal { id, source })
    }
}

/// Dies here, as by `kill -9`, where a test asked for it by `ENTRACTE_CRASH=effect:7`, or stops
/// (SIGSTOP) until it is told to go on, by `ENTRACTE_PAUSE=started:5`.
///
/// The crash sweep needs moments that no killer from outside can hit reliably: between an effect
/// and its journal entry. Only in builds for tests.
#[cfg(debug_assertions)]
fn crash(moment: &str, id: StepId) {
    use rustix::process::{Signal, getpid, kill_process};
    let here = format!("{moment}:{}", id.0);
    let asked = |variable: &str| std::env::var(variable).is_ok_and(|wanted| wanted == here);
    // Signals that cannot be caught, to ourselves: no destructor, no flush, no unlock.
    if asked("ENTRACTE_CRASH") {
        let _ = kill_process(getpid(), Signal::KILL);
    }
    if asked("ENTRACTE_PAUSE") {
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

#[cfg(not(debug_assertions))]
fn crash(_: &str, _: StepId) {}
