//! Announce: players are told that the game will close, and when.

use entracte_model::gate::Phase;
use entracte_model::journal::{Fault, Level};
use entracte_model::progress::Probe;
use serde_json::{Value, json};

use super::Act;
use crate::clock::now;
use crate::context::Context;
use crate::gate_goal;
use crate::messages;
use crate::outbox;

pub(crate) struct Announce {
    pub(crate) notice_ms: u64,
}

impl Act for Announce {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        let closes_at = now() + self.notice_ms;
        let (p50, p90) = gate_goal::reopening(cx, closes_at + drain_ms(cx));
        gate_goal::set(cx, Phase::Announced, |goal| {
            goal.closes_at = Some(closes_at);
            goal.reopens_p50 = Some(p50);
            goal.reopens_p90 = Some(p90);
        })?;
        // Whoever cannot be reached now is tried again later; nobody's silence stops a release.
        if let Err(fault) = messages::queue_closing(cx, closes_at, p50) {
            cx.say(
                Level::Warning,
                format!("the announcement could not be queued: {}", fault.message),
            );
        }
        outbox::flush(cx);
        let doing = "waiting for the announced time";
        cx.wait(self.notice_ms, doing, |cx| {
            let left = u64::try_from(closes_at.0 - now().0).unwrap_or(0);
            cx.progress(self.notice_ms.saturating_sub(left), self.notice_ms, "ms", "notice");
            Ok(left == 0)
        })?;
        Ok(json!({ "closes_at": closes_at }))
    }

    fn probe(&self, cx: &mut Context<'_>, _: &Value) -> Probe {
        // At its announced time the gate goes on by itself, and cannot announce any more.
        match gate_goal::is_past(cx, &[Phase::Draining, Phase::Closed]) {
            true => Probe::Done(Value::Null),
            false => Probe::NotDone,
        }
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        gate_goal::open_again(cx)?;
        if let Err(fault) = messages::queue_cancelled(cx) {
            cx.say(
                Level::Warning,
                format!("the correction could not be queued: {}", fault.message),
            );
        }
        outbox::flush(cx);
        Ok(())
    }
}

fn drain_ms(cx: &Context<'_>) -> u64 {
    use entracte_model::plan::Step;
    cx.plan
        .steps
        .iter()
        .find(|planned| matches!(planned.step, Step::Drain { .. }))
        .map_or(0, |planned| planned.expected.p50_ms)
}
