//! What happened to a release, written down before and after it happens.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Hash;
use crate::plan::StepId;
use crate::time::UnixMs;

/// One line of a release's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number within the release, from 1, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: UnixMs,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Everything that can happen to a release. Whatever shows a release renders these and decides nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A runner took the release up: the first one, or another after a crash.
    Began {
        /// Its process.
        pid: u32,
        /// The version of the program.
        tool: String,
    },
    /// A step is about to have its effect. `before` is enough to undo it without a receipt.
    Started {
        /// Which step.
        step: StepId,
        /// What must be known to undo it.
        before: Value,
    },
    /// A step goes on. Kept in the journal at most once a second.
    Progressed {
        /// Which step.
        step: StepId,
        /// How much is done.
        done: u64,
        /// Of how much; 0 where that is not known.
        total: u64,
        /// Of what: `bytes`, `files`, `statements`, `players`.
        unit: String,
        /// What is being done, for people.
        note: String,
    },
    /// Something that people should read.
    Said {
        /// The step that says it, if one does.
        step: Option<StepId>,
        /// How much it matters.
        level: Level,
        /// The text, one line.
        text: String,
    },
    /// A step had its effect.
    Done {
        /// Which step.
        step: StepId,
        /// What it did.
        receipt: Value,
    },
    /// A step did not have its effect, or not all of it.
    Failed {
        /// Which step.
        step: StepId,
        /// Why.
        fault: Fault,
    },
    /// A step is about to be undone.
    UndoStarted {
        /// Which step.
        step: StepId,
    },
    /// A step was undone.
    Undone {
        /// Which step.
        step: StepId,
    },
    /// A step could not be undone: the gate stays as it is and a person is asked.
    UndoFailed {
        /// Which step.
        step: StepId,
        /// Why.
        fault: Fault,
    },
    /// Somebody asked for the release to be taken back.
    AbortRequested {
        /// Who or what: `SIGINT`, `entracte abort`.
        by: String,
    },
    /// The release waits for a person.
    Asked {
        /// What for.
        question: Question,
    },
    /// The person said to try again.
    Retried {},
    /// Nothing more will happen.
    Finished {
        /// How it ended.
        outcome: Outcome,
    },
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody must look at it now.
    Alarm,
}

/// Why a step failed, for people and for exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The kind, which decides the exit code.
    pub kind: FaultKind,
    /// What was expected and what was found, with its causes.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether players may have written since: then data is not taken back without a person's word.
    #[serde(default)]
    pub players_in: bool,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Something is not as it must be; nothing was tried.
    Refused,
    /// It was tried and did not work.
    Broken,
    /// Somebody asked to stop.
    Stopped,
    /// The watch found the new version unwell.
    Unwell,
}

/// What a person must decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Question {
    /// A step was interrupted and nobody can tell whether it had its effect.
    Unclear {
        /// Which step.
        step: StepId,
        /// What was seen.
        seen: String,
    },
    /// A step could not be undone.
    UndoFailed {
        /// Which step.
        step: StepId,
        /// Why.
        fault: Fault,
    },
}

/// How a release ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Production is the new version.
    Released {
        /// How many steps after the reopening did not work (announcements, clean-up).
        warnings: u32,
    },
    /// Production is the new version, players are in, and the watch says that it is unwell.
    Unwell {
        /// What the watch saw.
        fault: Fault,
    },
    /// Production is the old version again.
    TakenBack {
        /// What made it so.
        fault: Fault,
    },
}

impl Event {
    /// The hash of an entry in its chain: an edited or removed line breaks all that follow.
    ///
    /// `previous` is the hash of the entry before, or of the plan for the first one.
    pub fn chain(previous: &Hash, seq: u64, at: UnixMs, event_json: &str) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&previous.0);
        hasher.update(&seq.to_le_bytes());
        hasher.update(&at.0.to_le_bytes());
        hasher.update(event_json.as_bytes());
        hasher.finalize().into()
    }
}

impl Fault {
    /// A fault of `kind` with its message.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, players_in: false }
    }

    /// The same fault with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
