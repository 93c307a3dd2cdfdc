//! Hold: requests wait inside the gate for a moment, instead of meeting a closed game.
//!
//! For releases that leave the database alone: what such a release changes can be taken back whoever
//! writes, so nobody needs to be fenced out. Requests that are in the game end, those that come wait
//! and go on with the new version. Where the moment becomes too long, the gate closes by itself and
//! shows its page, whoever is alive to see it.

use entracte_model::gate::Phase;
use entracte_model::journal::Fault;
use entracte_model::progress::Probe;
use serde_json::{Value, json};

use super::Act;
use super::close::{at_rest, let_back_in};
use crate::clock::now;
use crate::context::Context;
use crate::fault::Doing;
use crate::gate_goal;

pub(crate) struct Hold {
    pub(crate) limit_ms: u64,
}

impl Act for Hold {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        let (p50, p90) = gate_goal::reopening(cx, now());
        // Repeated after a crash, it may find that the page is shown already. Whoever saw it waits
        // for the game; to park the next ones would only make them wait twice.
        let shows_page = cx.gate().status().doing("asking the gate")?.phase == Phase::Closed;
        let phase = if shows_page { Phase::Closed } else { Phase::Holding };
        let deadline = now() + self.limit_ms;
        gate_goal::set(cx, phase, |goal| {
            goal.deadline = (phase == Phase::Holding).then_some(deadline);
            goal.reopens_p50 = Some(p50);
            goal.reopens_p90 = Some(p90);
        })?;
        let closed_at = now();
        at_rest(cx)?;
        Ok(json!({ "closed_at": closed_at }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        // That the gate holds says nothing about requests in flight and workers.
        Probe::NotDone
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        let_back_in(cx)
    }
}
