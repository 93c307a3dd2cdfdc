//! Restore: the rollback point of an earlier release comes back, on a person's word.
//!
//! Everything that was played since is lost from the live database. It is not lost for good: the
//! window copy of this very release holds it, and is what comes back if this release fails.

use entracte_model::journal::Fault;
use entracte_model::plan::{ReleaseId, Source, Step};
use entracte_model::progress::Probe;
use serde_json::Value;

use super::Act;
use super::close::fence_again;
use super::window_copy::come_back;
use crate::context::Context;
use crate::fault::refused;
use crate::gate_goal;

pub(crate) struct Restore;

impl Act for Restore {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::Restore {});
        come_back(cx, undoes(cx)?)?;
        Ok(Value::Null)
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        Probe::Partial("the database may be between two points".into())
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        fence_again(cx)?;
        come_back(cx, cx.plan.id)
    }
}

fn undoes(cx: &Context<'_>) -> Result<ReleaseId, Fault> {
    match cx.plan.source {
        Source::Kept { undoes, .. } => Ok(undoes),
        Source::Package { .. } => Err(refused("only a rollback restores a rollback point")),
    }
}
