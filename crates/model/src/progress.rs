//! Where a release stands, and what is to be done next: two pure functions.
//!
//! [`fold`] replays a journal; [`decide`] looks at the result. Recovery after a crash is nothing
//! but the same two functions over what the journal kept.

use serde_json::Value;

use crate::journal::{Entry, Event, Fault, FaultKind, Outcome, Question};
use crate::plan::{Plan, Step, StepId};

/// Where each step of a release stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// One state a step.
    pub steps: Vec<StepState>,
    /// Who asked for it to be taken back, if somebody did.
    pub abort: Option<String>,
    /// The first failure: kept apart, since undoing a step forgets why it failed.
    pub fault: Option<Fault>,
    /// How it ended, once it did.
    pub outcome: Option<Outcome>,
    /// The question that a person has not answered yet.
    pub asked: Option<Question>,
    /// Whether a person was asked, looked, and said to go on or to go back all the same.
    pub answered: bool,
    was_asked: bool,
    /// How many runners took it up.
    pub runners: u32,
}

/// Where one step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// A living runner is at it.
    Running {
        /// What must be known to undo it.
        before: Value,
    },
    /// Its runner died in the middle: the effect may or may not be there.
    Interrupted {
        /// What must be known to undo it.
        before: Value,
    },
    /// It had its effect.
    Done {
        /// What must be known to undo it.
        before: Value,
        /// What it did.
        receipt: Value,
    },
    /// It had no effect, or a part of it.
    Failed {
        /// What must be known to undo it; nothing where it failed before any effect.
        before: Option<Value>,
        /// Why.
        fault: Fault,
    },
    /// It is being undone.
    Undoing {
        /// What must be known to undo it.
        before: Value,
        /// Whether the runner that was at it died, so that it must begin again.
        interrupted: bool,
    },
    /// It was undone.
    Undone,
    /// It could not be undone.
    UndoFailed {
        /// What must be known to undo it.
        before: Value,
        /// Why not.
        fault: Fault,
    },
}

/// What a look at the world says of an interrupted step.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// Nothing of the effect is there: it can run again.
    NotDone,
    /// All of it is there.
    Done(Value),
    /// A part of it is there; it must be undone, it cannot go on.
    Partial(String),
    /// Nobody can tell.
    Unclear(String),
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Have this step's effect.
    Run(StepId),
    /// Look whether this interrupted step had its effect.
    Probe(StepId),
    /// Write down what the look showed.
    Record(StepId, Seen),
    /// Undo this step.
    Undo(StepId),
    /// Stop and ask a person.
    Ask(Question),
    /// Write down that it is over.
    Finish(Outcome),
    /// It is over.
    Finished(Outcome),
}

/// What is written down after a look at an interrupted step.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The effect is there.
    Done(Value),
    /// The effect is there in part.
    Failed(Fault),
}

/// A journal that cannot have been written by this program.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IllegalEntry {
    /// The numbers have a gap.
    #[error("entry {found} follows entry {after}: the journal has a gap")]
    Gap {
        /// The number before.
        after: u64,
        /// The number found.
        found: u64,
    },
    /// A step that the plan does not have.
    #[error("entry {seq} names step {step}, the plan has {steps}")]
    NoSuchStep {
        /// The number of the entry.
        seq: u64,
        /// The step it names.
        step: usize,
        /// How many there are.
        steps: usize,
    },
    /// An event that cannot follow what was before.
    #[error("entry {seq} says {event} of a step that is {state}")]
    Transition {
        /// The number of the entry.
        seq: u64,
        /// The event.
        event: &'static str,
        /// The state of the step before.
        state: &'static str,
    },
    /// Something after the end.
    #[error("entry {seq} comes after the release had finished")]
    AfterTheEnd {
        /// The number of the entry.
        seq: u64,
    },
}

impl Progress {
    /// Where a release stands before its first entry.
    pub fn new(plan: &Plan) -> Self {
        Self {
            steps: vec![StepState::Pending; plan.steps.len()],
            abort: None,
            fault: None,
            outcome: None,
            asked: None,
            answered: false,
            was_asked: false,
            runners: 0,
        }
    }

    /// Whether players came in again: data is no longer taken back without a person's word.
    pub fn crossed(&self, plan: &Plan) -> bool {
        let Some(id) = plan.reopening() else { return false };
        match &self.steps[id.0] {
            StepState::Done { .. } => true,
            StepState::Failed { fault, .. } => fault.players_in,
            _ => false,
        }
    }

    /// Why the release is being taken back, if it is.
    pub fn going_back(&self, plan: &Plan) -> Option<Fault> {
        if self.crossed(plan) {
            return None;
        }
        self.fault.clone().or_else(|| {
            let by = self.abort.as_ref()?;
            Some(Fault::new(FaultKind::Stopped, format!("asked to stop by {by}")))
        })
    }

    /// The step that is being run, probed or undone now, if any.
    pub fn current(&self) -> Option<StepId> {
        self.steps
            .iter()
            .position(|state| {
                matches!(
                    state,
                    StepState::Running { .. }
                        | StepState::Interrupted { .. }
                        | StepState::Undoing { .. }
                )
            })
            .map(StepId)
    }

    /// Takes one more entry.
    pub fn take(&mut self, entry: &Entry) -> Result<(), IllegalEntry> {
        if self.outcome.is_some() && !matches!(entry.event, Event::Said { .. }) {
            return Err(IllegalEntry::AfterTheEnd { seq: entry.seq });
        }
        match &entry.event {
            Event::Began { .. } => {
                self.runners += 1;
                self.was_asked = self.asked.take().is_some();
                self.answered = false;
                for state in &mut self.steps {
                    interrupt(state);
                }
            }
            Event::AbortRequested { by } => self.abort = Some(by.clone()),
            Event::Asked { question } => self.asked = Some(question.clone()),
            Event::Retried {} => {
                self.asked = None;
                self.answered = self.was_asked;
                for state in &mut self.steps {
                    if let StepState::UndoFailed { before, .. } = state {
                        *state = StepState::Undoing { before: before.clone(), interrupted: true };
                    }
                }
            }
            Event::Finished { outcome } => self.outcome = Some(outcome.clone()),
            Event::Said { .. } | Event::Progressed { .. } => {}
            Event::Started { step, .. }
            | Event::Done { step, .. }
            | Event::Failed { step, .. }
            | Event::UndoStarted { step }
            | Event::Undone { step }
            | Event::UndoFailed { step, .. } => self.step(entry, *step)?,
        }
        Ok(())
    }

    fn step(&mut self, entry: &Entry, step: StepId) -> Result<(), IllegalEntry> {
        let steps = self.steps.len();
        let Some(state) = self.steps.get_mut(step.0) else {
            return Err(IllegalEntry::NoSuchStep { seq: entry.seq, step: step.0, steps });
        };
        let Some(next) = transition(state, &entry.event) else {
            let (event, state) = (entry.event.name(), state.name());
            return Err(IllegalEntry::Transition { seq: entry.seq, event, state });
        };
        *state = next;
        if let Event::Failed { fault, .. } = &entry.event {
            self.fault.get_or_insert_with(|| fault.clone());
        }
        Ok(())
    }
}

/// What a runner's death leaves of a step that it was at.
fn interrupt(state: &mut StepState) {
    match state {
        StepState::Running { before } => {
            *state = StepState::Interrupted { before: before.clone() };
        }
        StepState::Undoing { interrupted, .. } => *interrupted = true,
        StepState::Pending
        | StepState::Interrupted { .. }
        | StepState::Done { .. }
        | StepState::Failed { .. }
        | StepState::Undone
        | StepState::UndoFailed { .. } => {}
    }
}

/// Every legal transition of a step; all others are errors.
fn transition(state: &StepState, event: &Event) -> Option<StepState> {
    use StepState as S;
    let next = match (state, event) {
        (S::Pending | S::Interrupted { .. }, Event::Started { before, .. }) => {
            S::Running { before: before.clone() }
        }
        (S::Running { before } | S::Interrupted { before }, Event::Done { receipt, .. }) => {
            S::Done { before: before.clone(), receipt: receipt.clone() }
        }
        (S::Pending, Event::Failed { fault, .. }) => {
            S::Failed { before: None, fault: fault.clone() }
        }
        (S::Running { before } | S::Interrupted { before }, Event::Failed { fault, .. }) => {
            S::Failed { before: Some(before.clone()), fault: fault.clone() }
        }
        (
            S::Done { before, .. }
            | S::Failed { before: Some(before), .. }
            | S::Interrupted { before }
            | S::Undoing { before, interrupted: true },
            Event::UndoStarted { .. },
        ) => S::Undoing { before: before.clone(), interrupted: false },
        (S::Undoing { .. }, Event::Undone { .. }) => S::Undone,
        (S::Undoing { before, .. }, Event::UndoFailed { fault, .. }) => {
            S::UndoFailed { before: before.clone(), fault: fault.clone() }
        }
        _ => return None,
    };
    Some(next)
}

impl StepState {
    /// What must be known to undo the step, where that was written down.
    pub fn before(&self) -> Option<&Value> {
        match self {
            StepState::Running { before }
            | StepState::Interrupted { before }
            | StepState::Done { before, .. }
            | StepState::Failed { before: Some(before), .. }
            | StepState::Undoing { before, .. }
            | StepState::UndoFailed { before, .. } => Some(before),
            StepState::Pending | StepState::Failed { before: None, .. } | StepState::Undone => None,
        }
    }

    /// The name of the state, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            StepState::Pending => "pending",
            StepState::Running { .. } => "running",
            StepState::Interrupted { .. } => "interrupted",
            StepState::Done { .. } => "done",
            StepState::Failed { .. } => "failed",
            StepState::Undoing { .. } => "being undone",
            StepState::Undone => "undone",
            StepState::UndoFailed { .. } => "not undone",
        }
    }
}

impl Event {
    /// The name of the event, as in its JSON form.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Began { .. } => "began",
            Event::Started { .. } => "started",
            Event::Progressed { .. } => "progressed",
            Event::Said { .. } => "said",
            Event::Done { .. } => "done",
            Event::Failed { .. } => "failed",
            Event::UndoStarted { .. } => "undo_started",
            Event::Undone { .. } => "undone",
            Event::UndoFailed { .. } => "undo_failed",
            Event::AbortRequested { .. } => "abort_requested",
            Event::Asked { .. } => "asked",
            Event::Retried {} => "retried",
            Event::Finished { .. } => "finished",
        }
    }
}

/// Replays a whole journal.
pub fn fold(plan: &Plan, log: &[Entry]) -> Result<Progress, IllegalEntry> {
    let mut progress = Progress::new(plan);
    let mut last = 0;
    for entry in log {
        if entry.seq != last + 1 {
            return Err(IllegalEntry::Gap { after: last, found: entry.seq });
        }
        last = entry.seq;
        progress.take(entry)?;
    }
    Ok(progress)
}

/// What is to be done next. `seen` is the answer to the [`Next::Probe`] that was asked for last.
pub fn decide(plan: &Plan, at: &Progress, seen: Option<&Probe>) -> Next {
    if let Some(outcome) = &at.outcome {
        return Next::Finished(outcome.clone());
    }
    for (index, state) in at.steps.iter().enumerate() {
        if let StepState::UndoFailed { fault, .. } = state {
            let question = Question::UndoFailed { step: StepId(index), fault: fault.clone() };
            return Next::Ask(question);
        }
    }
    if let Some(next) = interrupted(plan, at, seen) {
        return next;
    }
    match at.going_back(plan) {
        Some(fault) => back(plan, at, fault),
        None => forward(plan, at),
    }
}

/// An interrupted step is looked at before anything else is decided, with one exception: a step
/// that is to be undone anyway is undone without a look, since undoing looks for itself.
fn interrupted(plan: &Plan, at: &Progress, seen: Option<&Probe>) -> Option<Next> {
    let index = at.steps.iter().position(|s| matches!(s, StepState::Interrupted { .. }))?;
    let id = StepId(index);
    let step = plan.step(id)?;
    if at.going_back(plan).is_some() && !matches!(step, Step::Reopen {}) {
        return None;
    }
    let next = match seen {
        None => Next::Probe(id),
        Some(Probe::Done(receipt)) => Next::Record(id, Seen::Done(receipt.clone())),
        Some(Probe::Partial(what)) => {
            let message = format!("interrupted in the middle: {what}");
            Next::Record(id, Seen::Failed(Fault::new(FaultKind::Broken, message)))
        }
        // A person was asked already, looked, and said what to do: that decides.
        Some(Probe::Unclear(what)) if at.answered => match at.going_back(plan) {
            Some(_) => {
                let message =
                    format!("interrupted and unclear ({what}); taken back on a person's word");
                Next::Record(id, Seen::Failed(Fault::new(FaultKind::Stopped, message)))
            }
            None => Next::Run(id),
        },
        Some(Probe::Unclear(what)) => Next::Ask(Question::Unclear { step: id, seen: what.clone() }),
        Some(Probe::NotDone) if at.going_back(plan).is_some() => {
            let message = "interrupted before it had any effect";
            Next::Record(id, Seen::Failed(Fault::new(FaultKind::Stopped, message)))
        }
        Some(Probe::NotDone) => Next::Run(id),
    };
    Some(next)
}

fn back(plan: &Plan, at: &Progress, fault: Fault) -> Next {
    for (index, state) in at.steps.iter().enumerate().rev() {
        let id = StepId(index);
        let undoable = match state {
            StepState::Done { .. }
            | StepState::Failed { before: Some(_), .. }
            | StepState::Interrupted { .. }
            | StepState::Undoing { .. } => true,
            StepState::Pending
            | StepState::Running { .. }
            | StepState::Failed { before: None, .. }
            | StepState::Undone
            | StepState::UndoFailed { .. } => false,
        };
        if undoable && plan.step(id).is_some_and(Step::has_undo) {
            return Next::Undo(id);
        }
    }
    Next::Finish(Outcome::TakenBack { fault })
}

fn forward(plan: &Plan, at: &Progress) -> Next {
    let mut warnings = 0;
    for (index, state) in at.steps.iter().enumerate() {
        match state {
            StepState::Pending => return Next::Run(StepId(index)),
            StepState::Failed { fault, .. } if fault.kind == FaultKind::Unwell => {}
            StepState::Failed { .. } => warnings += 1,
            _ => {}
        }
    }
    let unwell = at.steps.iter().find_map(|state| match state {
        StepState::Failed { fault, .. } if fault.kind == FaultKind::Unwell => Some(fault),
        _ => None,
    });
    let outcome = match unwell {
        Some(fault) => Outcome::Unwell { fault: fault.clone() },
        None => Outcome::Released { warnings },
    };
    debug_assert!(plan.steps.len() == at.steps.len());
    Next::Finish(outcome)
}
