//! What a release will do, decided before anything is done.
//!
//! A plan leaves its executor no choice: the steps stand in the order in which they run, each
//! with its parameters. It is what `entracte plan` prints, what `INSTALL.md` says, and what runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::Base;
use crate::time::human_ms;
use crate::way::Choice;

/// The format of plans that this program writes, and the newest that it carries out.
pub const FORMAT: u32 = 1;

/// A release of one production, counted from 1: `r7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(pub u64);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A text that names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a release: expected r and a number, such as r7 (see `entracte history`)")]
pub struct BadReleaseId(String);

impl FromStr for ReleaseId {
    type Err = BadReleaseId;

    fn from_str(text: &str) -> Result<Self, BadReleaseId> {
        let digits = text.strip_prefix('r').unwrap_or(text);
        digits.parse().map(Self).map_err(|_| BadReleaseId(text.chars().take(40).collect()))
    }
}

impl Serialize for ReleaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReleaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The place of a step in its plan, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub usize);

/// Everything that one release will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The format of this plan; a newer one than [`FORMAT`] is refused.
    pub format: u32,
    /// Which release this is.
    pub id: ReleaseId,
    /// The game.
    pub project: String,
    /// The environment, such as `production`.
    pub environment: String,
    /// What production holds before; nothing for a first installation.
    pub from: Option<Base>,
    /// What it will hold afterwards.
    pub to: Base,
    /// The sequence number of the signed record, which production remembers.
    pub sequence: u64,
    /// Where the new tree comes from.
    pub source: Source,
    /// The database scripts by name, in order.
    pub scripts: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Planned>,
    /// How long players will find the game closed.
    pub closed: Range,
    /// The way to the rollback point, and what the others would cost. Nothing where the plan takes
    /// none, or where the database could not be asked when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<Choice>,
}

/// Where a plan takes its new tree from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A signed package.
    Package {
        /// The archive on the target machine.
        archive: String,
    },
    /// The tree that an earlier release replaced, kept beside the live one.
    Kept {
        /// The release that is undone.
        undoes: ReleaseId,
        /// Whether its rollback point replaces the database: all that was played since is lost.
        with_data: bool,
    },
}

/// A step with what it is expected to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// What is done.
    pub step: Step,
    /// How long it should take.
    pub expected: Range,
}

/// A predicted duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Half of all runs are faster, in milliseconds.
    pub p50_ms: u64,
    /// Nine of ten runs are faster, in milliseconds.
    pub p90_ms: u64,
}

/// The steps of a release, each in the file of its name in the `release` crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Everything that can be known beforehand is looked at; nothing is changed.
    Preflight {},
    /// The new tree is built beside the live one and verified.
    Stage {},
    /// Source and database go into the backup repository, while the game runs.
    Backup {},
    /// Players are told that the game will close, and when.
    Announce {
        /// How long before the login closes, in milliseconds.
        notice_ms: u64,
    },
    /// Logins close; players who are in go on.
    Drain {
        /// How long they may, in milliseconds, unless nobody is left before.
        deadline_ms: u64,
    },
    /// The game closes; workers stop; the database is proven to be quiet.
    Close {},
    /// Requests wait inside the gate instead of meeting a closed game; workers stop. For releases
    /// that leave the database alone.
    Hold {
        /// How long requests may wait, in milliseconds; then the game is closed after all.
        limit_ms: u64,
    },
    /// The exact point that the database returns to if anything fails.
    WindowCopy {},
    /// The database scripts run.
    Migrate {},
    /// The rollback point of an earlier release comes back into the database.
    Restore {},
    /// The live tree and the staged one are exchanged.
    Switch {},
    /// The game is tested through the gate, by a tester, while it is closed to players.
    Smoke {},
    /// Players come in again. From here nothing that they write is taken back silently.
    Reopen {},
    /// Players are told what changed.
    Tell {},
    /// Errors, slowness and probes are watched.
    Watch {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// Old trees and rollback points go, as far as retention allows.
    Retire {},
}

impl Step {
    /// The name that people, journals and commands use.
    pub fn name(self) -> &'static str {
        match self {
            Step::Preflight {} => "preflight",
            Step::Stage {} => "stage",
            Step::Backup {} => "backup",
            Step::Announce { .. } => "announce",
            Step::Drain { .. } => "drain",
            Step::Close {} => "close",
            Step::Hold { .. } => "hold",
            Step::WindowCopy {} => "window copy",
            Step::Migrate {} => "migrate",
            Step::Restore {} => "restore",
            Step::Switch {} => "switch",
            Step::Smoke {} => "smoke",
            Step::Reopen {} => "reopen",
            Step::Tell {} => "tell",
            Step::Watch { .. } => "watch",
            Step::Retire {} => "retire",
        }
    }

    /// Whether taking a release back has anything to do for this step.
    pub fn has_undo(self) -> bool {
        match self {
            Step::Stage {}
            | Step::Backup {}
            | Step::Announce { .. }
            | Step::Drain { .. }
            | Step::Close {}
            | Step::Hold { .. }
            | Step::WindowCopy {}
            | Step::Migrate {}
            | Step::Restore {}
            | Step::Switch {} => true,
            Step::Preflight {}
            | Step::Smoke {}
            | Step::Reopen {}
            | Step::Tell {}
            | Step::Watch { .. }
            | Step::Retire {} => false,
        }
    }

    /// Whether no player reaches the game during this step.
    pub fn in_window(self) -> bool {
        matches!(
            self,
            Step::Close {}
                | Step::Hold { .. }
                | Step::WindowCopy {}
                | Step::Migrate {}
                | Step::Restore {}
                | Step::Switch {}
                | Step::Smoke {}
        )
    }
}

impl Plan {
    /// The step at `id`.
    pub fn step(&self, id: StepId) -> Option<Step> {
        self.steps.get(id.0).map(|planned| planned.step)
    }

    /// The place of the first step that `wanted` accepts.
    pub fn find(&self, wanted: impl Fn(Step) -> bool) -> Option<StepId> {
        self.steps.iter().position(|planned| wanted(planned.step)).map(StepId)
    }

    /// The step from which players write again: the point of no silent return.
    pub fn reopening(&self) -> Option<StepId> {
        self.find(|step| matches!(step, Step::Reopen {}))
    }

    /// Whether requests wait through the window instead of meeting a closed game.
    pub fn holds(&self) -> bool {
        self.find(|step| matches!(step, Step::Hold { .. })).is_some()
    }

    /// The step by which the window begins.
    pub fn closing(&self) -> Option<StepId> {
        self.find(|step| matches!(step, Step::Close {} | Step::Hold { .. }))
    }

    /// The predicted closed time: the sum over the steps inside the window.
    pub fn closed_of(steps: &[Planned]) -> Range {
        let inside = || steps.iter().filter(|planned| planned.step.in_window());
        Range {
            p50_ms: inside().map(|planned| planned.expected.p50_ms).sum(),
            p90_ms: inside().map(|planned| planned.expected.p90_ms).sum(),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.p50_ms == self.p90_ms {
            return f.write_str(&human_ms(self.p50_ms));
        }
        write!(f, "{} (9 of 10: {})", human_ms(self.p50_ms), human_ms(self.p90_ms))
    }
}
