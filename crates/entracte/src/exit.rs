//! Exit codes, and the one kind of error that a command ends with.

use std::error::Error;
use std::fmt;

use entracte_model::journal::{Entry, Event, Fault, FaultKind, Outcome, Question};
use entracte_model::plan::{Plan, Step};
use entracte_release::fault::chain;

/// How a command ends. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done = 0,
    /// Something broke.
    Broken = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Something is not as it must be; nothing was changed.
    Refused = 3,
    /// The release was taken back: production is the old version.
    TakenBack = 4,
    /// A person must decide; the gate stays as it is.
    Asks = 5,
    /// The release is live, and the watch says that it is unwell.
    Unwell = 6,
    /// Another release is at work.
    Busy = 7,
    /// The machine of the game cannot be reached, or no longer: a release that began goes on.
    Unreached = 8,
}

impl Exit {
    /// The code with this number, as another process ended with it.
    pub fn of(code: u8) -> Self {
        match code {
            0 => Exit::Done,
            2 => Exit::Usage,
            3 => Exit::Refused,
            4 => Exit::TakenBack,
            5 => Exit::Asks,
            6 => Exit::Unwell,
            7 => Exit::Busy,
            8 => Exit::Unreached,
            _ => Exit::Broken,
        }
    }
}

/// The list of exit codes for `entracte --help` and the manual.
pub const TABLE: &str = "\
Exit codes:
  0  done
  1  something broke
  2  the command line or the configuration is wrong
  3  refused: something is not as it must be, nothing was changed
  4  the release was taken back: production is the old version, to the byte
  5  a person must decide (entracte log says what); the gate stays as it is
  6  the release is live and the watch finds it unwell (entracte rollback)
  7  another release is at work
  8  the machine of the game cannot be reached; a release that began goes on by itself";

/// An error at the edge: what to print, and how to end.
#[derive(Debug)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// What was expected and found, with its causes.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// Something broke.
    pub fn broken(message: impl Into<String>) -> Self {
        Self { exit: Exit::Broken, message: message.into(), hint: None }
    }

    /// Something is not as it must be; nothing was changed.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, message: message.into(), hint: None }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// The same with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any typed error of the crates below; a more telling exit code is given where there is one.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::broken(chain(&error))
    }
}

/// How a release's fault ends the command that ran it outside of a release.
pub fn of_fault(fault: &Fault) -> Failure {
    let exit = match fault.kind {
        FaultKind::Refused => Exit::Refused,
        FaultKind::Broken | FaultKind::Stopped | FaultKind::Unwell => Exit::Broken,
    };
    Failure { exit, message: fault.message.clone(), hint: fault.hint.clone() }
}

/// How the end of a release ends the command that followed it; `log` is its whole journal.
pub fn of_outcome(outcome: &Outcome, plan: &Plan, log: &[Entry]) -> Exit {
    match outcome {
        Outcome::Released { .. } => Exit::Done,
        Outcome::Unwell { .. } => Exit::Unwell,
        Outcome::TakenBack { fault } if only_looked(fault, plan, log) => Exit::Refused,
        Outcome::TakenBack { .. } => Exit::TakenBack,
    }
}

/// Whether a release ended before it changed anything: preflight only looks. One that somebody
/// stopped was taken back, however early: that is what they asked for.
pub fn only_looked(fault: &Fault, plan: &Plan, log: &[Entry]) -> bool {
    let looks = |step| matches!(plan.step(step), Some(Step::Preflight {}));
    fault.kind != FaultKind::Stopped
        && log.iter().all(|entry| match &entry.event {
            Event::Started { step, .. } | Event::Failed { step, .. } => looks(*step),
            _ => true,
        })
}

/// What a person is asked, with what can be answered.
pub fn question(question: &Question) -> Failure {
    let (message, hint) = match question {
        Question::Unclear { seen, .. } => (
            format!("nobody can tell whether the interrupted step had its effect: {seen}"),
            "look at it, then `entracte resume` to go on or `entracte abort` to take it back",
        ),
        Question::UndoFailed { fault, .. } => (
            format!("a step could not be undone: {}", fault.message),
            "mend the cause, then `entracte resume` tries again; the game stays closed meanwhile",
        ),
    };
    Failure { exit: Exit::Asks, message, hint: Some(hint.into()) }
}

#[cfg(test)]
mod tests {
    use entracte_model::plan::{FORMAT, Planned, Range, ReleaseId, Source, StepId};
    use entracte_model::record::Base;
    use entracte_model::{Hash, UnixMs};

    use super::*;

    fn plan() -> Plan {
        let expected = Range { p50_ms: 1, p90_ms: 1 };
        let steps = [Step::Preflight {}, Step::Stage {}];
        Plan {
            format: FORMAT,
            id: ReleaseId(1),
            project: "taverne".into(),
            environment: "production".into(),
            from: None,
            to: Base { version: "1.1".parse().unwrap(), manifest: Hash::of(b"1.1") },
            sequence: 1,
            source: Source::Package { archive: "x".into() },
            scripts: vec![],
            closed: expected,
            point: None,
            steps: steps.map(|step| Planned { step, expected }).to_vec(),
        }
    }

    fn exit(kind: FaultKind, started: &[usize]) -> Exit {
        let fault = Fault::new(kind, "why");
        let entry = |step: &usize| Entry {
            seq: 1,
            at: UnixMs(0),
            event: Event::Started { step: StepId(*step), before: serde_json::Value::Null },
        };
        let log: Vec<Entry> = started.iter().map(entry).collect();
        of_outcome(&Outcome::TakenBack { fault }, &plan(), &log)
    }

    #[test]
    fn refused_is_only_what_changed_nothing() {
        assert_eq!(exit(FaultKind::Refused, &[0]), Exit::Refused);
        assert_eq!(exit(FaultKind::Broken, &[0]), Exit::Refused);
        assert_eq!(exit(FaultKind::Refused, &[0, 1]), Exit::TakenBack);
        assert_eq!(exit(FaultKind::Stopped, &[0]), Exit::TakenBack);
    }
}
