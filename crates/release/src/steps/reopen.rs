//! Reopen: players come in again. From here nothing that they write is taken back silently.

use entracte_model::UnixMs;
use entracte_model::gate::Phase;
use entracte_model::journal::Fault;
use entracte_model::progress::Probe;
use serde_json::{Value, json};

use super::Act;
use super::close::{closed_at, open_all};
use crate::clock::now;
use crate::context::Context;
use crate::gate_goal::{self, asked_by, last_known, opened_by};
use crate::messages::notes_url;

pub(crate) struct Reopen;

impl Act for Reopen {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        cx.safe_point("about to reopen")?;
        // Workers first: they belong to the game, and a worker that cannot start is a failed release.
        open_all(cx)?;
        let url = notes_url(cx);
        // Nobody was sent away by a gate that still holds: there is no herd to come back.
        let held = cx.gate().status().is_ok_and(|status| status.phase == Phase::Holding);
        // A server without a waiting room lets everybody in.
        let ramps = !held && cx.gate_can().can_pace;
        let ramp_ms = if ramps { cx.target.pace.ramp_ms } else { 0 };
        let phase = if ramp_ms == 0 { Phase::Open } else { Phase::Reopening };
        let asked = gate_goal::set(cx, phase, |goal| {
            goal.notes_url = Some(url);
            goal.deadline = (ramp_ms > 0).then(|| now() + ramp_ms);
        });
        if let Err(mut fault) = asked {
            fault.players_in = players_in(cx);
            return Err(fault);
        }
        Ok(receipt(cx, now()))
    }

    fn probe(&self, cx: &mut Context<'_>, _: &Value) -> Probe {
        let goal = cx.gate().status().map(|status| status.goal).ok().or_else(|| last_known(cx));
        match goal {
            Some(goal) if opened_by(cx, &goal) => Probe::Done(receipt(cx, now())),
            Some(goal) if asked_by(cx, &goal) => Probe::NotDone,
            // Somebody else's goal hides whether ours was in force before it.
            Some(goal) => Probe::Unclear(format!(
                "the gate is {} by somebody else ({}): players may have been in before",
                goal.phase, goal.reason
            )),
            None => Probe::Unclear("the gate does not answer and left no state".into()),
        }
    }
}

/// Whether the gate may have opened although it did not say so. Its state is on disk before it
/// acts, so a gate that never got that far cannot have let anybody in.
fn players_in(cx: &Context<'_>) -> bool {
    let goal = cx.gate().status().map(|status| status.goal).ok().or_else(|| last_known(cx));
    goal.is_none_or(|goal| opened_by(cx, &goal))
}

fn receipt(cx: &Context<'_>, opened_at: UnixMs) -> Value {
    let closed_ms = closed_at(cx).map(|closed_at| opened_at.since(closed_at));
    json!({ "opened_at": opened_at, "closed_ms": closed_ms })
}
