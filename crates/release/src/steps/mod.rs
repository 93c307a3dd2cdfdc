//! The steps of a release: one file a step, with its precondition, effect, probe and undo.

mod announce;
pub(crate) mod backup;
mod close;
mod drain;
mod hold;
mod migrate;
mod preflight;
mod reopen;
mod restore;
mod retire;
mod smoke;
mod stage;
mod switch;
mod tell;
mod watch;
mod window_copy;

use entracte_model::journal::Fault;
use entracte_model::plan::Step;
use entracte_model::progress::Probe;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use close::fence_again;
pub(crate) use preflight::manifest_of;
pub(crate) use window_copy::{way, way_named};

use crate::context::Context;
use crate::fault::refused;

/// What a step can do.
pub(crate) trait Act {
    /// Looks at the world and says what must be known to undo the step. Changes nothing.
    fn before(&self, cx: &mut Context<'_>) -> Result<Value, Fault>;
    /// Has the effect. `before` is durable by now.
    fn run(&self, cx: &mut Context<'_>, before: &Value) -> Result<Value, Fault>;
    /// Looks whether an interrupted step had its effect. Changes nothing.
    fn probe(&self, cx: &mut Context<'_>, before: &Value) -> Probe;
    /// Takes the effect back, whole or in part, and however often it is asked to.
    fn undo(&self, _cx: &mut Context<'_>, _before: &Value) -> Result<(), Fault> {
        Ok(())
    }
}

/// The code of a step.
pub(crate) fn act(step: Step) -> Box<dyn Act> {
    match step {
        Step::Preflight {} => Box::new(preflight::Preflight),
        Step::Stage {} => Box::new(stage::Stage),
        Step::Backup {} => Box::new(backup::Backup),
        Step::Announce { notice_ms } => Box::new(announce::Announce { notice_ms }),
        Step::Drain { deadline_ms } => Box::new(drain::Drain { deadline_ms }),
        Step::Close {} => Box::new(close::Close),
        Step::Hold { limit_ms } => Box::new(hold::Hold { limit_ms }),
        Step::WindowCopy {} => Box::new(window_copy::WindowCopy),
        Step::Migrate {} => Box::new(migrate::Migrate),
        Step::Restore {} => Box::new(restore::Restore),
        Step::Switch {} => Box::new(switch::Switch),
        Step::Smoke {} => Box::new(smoke::Smoke),
        Step::Reopen {} => Box::new(reopen::Reopen),
        Step::Tell {} => Box::new(tell::Tell),
        Step::Watch { for_ms } => Box::new(watch::Watch { for_ms }),
        Step::Retire {} => Box::new(retire::Retire),
    }
}

/// A step's own data as the journal keeps it.
pub(crate) fn keep(data: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(data).map_err(|error| refused(format!("cannot be written down: {error}")))
}

/// A step's own data as the journal kept it.
pub(crate) fn recall<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    serde_json::from_value(value.clone())
        .map_err(|error| refused(format!("the journal holds something else: {error}")))
}
