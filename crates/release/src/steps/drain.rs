//! Drain: the login closes; players who are in go on, until nobody is left or the deadline.

use entracte_model::gate::Phase;
use entracte_model::journal::Fault;
use entracte_model::progress::Probe;
use serde_json::{Value, json};

use super::Act;
use super::window_copy::prepare;
use crate::clock::now;
use crate::context::Context;
use crate::fault::Doing;
use crate::gate_goal;

pub(crate) struct Drain {
    pub(crate) deadline_ms: u64,
}

impl Act for Drain {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        // The nearest to the closing at which that costs nobody a moment.
        prepare(cx);
        let deadline = now() + self.deadline_ms;
        let (p50, p90) = gate_goal::reopening(cx, deadline);
        let status = gate_goal::set(cx, Phase::Draining, |goal| {
            goal.closes_at = Some(deadline);
            goal.deadline = Some(deadline);
            goal.reopens_p50 = Some(p50);
            goal.reopens_p90 = Some(p90);
        })?;
        let Some(at_first) = status.players_left else { return self.uncounted(cx) };
        let mut left = at_first;
        cx.wait(self.deadline_ms, "players finish", |cx| {
            let counted = cx.gate().status().doing("asking the gate")?.players_left;
            left = counted.unwrap_or(left);
            cx.progress(at_first.saturating_sub(left), at_first, "players", "finished");
            Ok(left == 0)
        })?;
        cx.info(match left {
            0 => "login closed; nobody is left".to_owned(),
            left => format!("login closed; {left} players were still in at the deadline"),
        });
        Ok(json!({ "players_at_first": at_first, "players_left": left }))
    }

    fn probe(&self, cx: &mut Context<'_>, _: &Value) -> Probe {
        // The gate closes by itself at the deadline, whoever is alive to see it.
        match gate_goal::is_past(cx, &[Phase::Closed]) {
            true => Probe::Done(Value::Null),
            false => Probe::NotDone,
        }
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        gate_goal::open_again(cx)
    }
}

impl Drain {
    /// A server that counts nobody: everybody has the whole time.
    fn uncounted(&self, cx: &mut Context<'_>) -> Result<Value, Fault> {
        let total = self.deadline_ms;
        let began = now();
        cx.wait(total, "players finish", |cx| {
            cx.progress(now().since(began).min(total), total, "ms", "given to players");
            Ok(false)
        })?;
        cx.info("login closed; who is left is not counted");
        Ok(json!({}))
    }
}
