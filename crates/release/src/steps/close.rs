//! Close: the gate closes, workers stop, and the database is proven to be quiet.

use std::time::Duration;

use entracte_db::FenceProof;
use entracte_model::UnixMs;
use entracte_model::gate::Phase;
use entracte_model::journal::{Fault, FaultKind, Level};
use entracte_model::plan::Step;
use entracte_model::progress::{Probe, StepState};
use entracte_model::time::human_ms;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::smoke::settle;
use super::{Act, keep};
use crate::clock::now;
use crate::context::{Context, POLL_MS};
use crate::fault::Doing;
use crate::gate_goal;

/// How often is looked whether the last request has ended, in milliseconds: players wait for it.
const IN_FLIGHT_POLL_MS: u64 = 5;

pub(crate) struct Close;

/// What the fence is about to change in the database server: enough to undo it after a crash, and
/// told apart from what a repeated fence would find changed already.
#[derive(Serialize, Deserialize)]
struct Before {
    fence: Option<FenceProof>,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    closed_at: UnixMs,
    fence: Option<FenceProof>,
}

impl Act for Close {
    fn before(&self, cx: &mut Context<'_>) -> Result<Value, Fault> {
        let fence = match cx.database()? {
            Some(mut database) => {
                Some(database.fence_intent().doing("looking at what the fence will change")?)
            }
            None => None,
        };
        keep(&Before { fence })
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        let (p50, p90) = gate_goal::reopening(cx, now());
        gate_goal::set(cx, Phase::Closed, |goal| {
            goal.reopens_p50 = Some(p50);
            goal.reopens_p90 = Some(p90);
            goal.progress = Some(0);
        })?;
        let closed_at = now();
        at_rest(cx)?;
        let fence = self.fence(cx, cx.target.pace.fence_ms)?;
        keep(&Receipt { closed_at, fence })
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        // Each part can be had again; the proof must be.
        Probe::NotDone
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        let_back_in(cx)
    }
}

/// Waits until the requests that are in the game have ended, and stops the workers.
pub(crate) fn at_rest(cx: &mut Context<'_>) -> Result<(), Fault> {
    let limit_ms = cx.target.pace.fence_ms;
    let (mut in_flight, mut grace_ms) = (Some(0), 0);
    // Our own gate is asked often, because players wait; a server is asked by more than a line.
    let is_ours = cx.target.front.is_none();
    let poll_ms = if is_ours { IN_FLIGHT_POLL_MS } else { POLL_MS };
    let known = cx.wait_every(poll_ms, limit_ms, "requests in flight end", |cx| {
        let status = cx.gate().status().doing("asking the gate")?;
        (in_flight, grace_ms) = (status.in_flight, status.grace_ms);
        Ok(in_flight.unwrap_or(0) == 0)
    })?;
    if !known {
        let at_work = in_flight.unwrap_or(0);
        // A server that is reloaded for this counts the workers that it replaced.
        let what = if cx.gate_can().reloads_at_closing { "old workers" } else { "requests" };
        let message = format!("{at_work} {what} are still at work after {limit_ms} ms");
        return Err(Fault::new(FaultKind::Broken, message)
            .hint("raise pace.fence, or look what the game is doing for so long"));
    }
    if in_flight.is_none() {
        blind(cx, grace_ms)?;
    }
    let stop = cx.target.hooks.workers_stop.clone();
    cx.hooks("workers_stop", &stop)
}

/// Where nobody can tell whether requests are in the game, time must do.
fn blind(cx: &mut Context<'_>, grace_ms: u64) -> Result<(), Fault> {
    let text = format!(
        "{} cannot tell whether requests are in the game: {} given to them",
        crate::front::kind(cx.target),
        human_ms(grace_ms)
    );
    cx.say(Level::Warning, text);
    cx.wait(grace_ms, "requests end", |_| Ok(false)).map(drop)
}

/// Lets workers and players back into the game that they knew.
pub(crate) fn let_back_in(cx: &mut Context<'_>) -> Result<(), Fault> {
    open_all(cx)?;
    if let Some(from) = cx.plan.from.as_ref().map(|base| base.version.to_string())
        && state_of(cx, |step| matches!(step, Step::Switch {}))
            .is_some_and(|state| has_begun(&state))
        && !settle(cx, &from)?
    {
        let text = format!("the game does not answer as {from} yet; it is opened all the same");
        cx.say(Level::Warning, text);
    }
    gate_goal::open_again(cx)
}

impl Close {
    /// Closing the gate is not enough: crons, workers and open sessions write too.
    fn fence(&self, cx: &mut Context<'_>, limit_ms: u64) -> Result<Option<FenceProof>, Fault> {
        let Some(mut database) = cx.database()? else { return Ok(None) };
        let proof = database
            .fence(Duration::from_millis(limit_ms), &mut |text| cx.info(text))
            .doing("waiting for the database to be quiet")?;
        Ok(Some(proof))
    }
}

/// Lets the game's own accounts and workers back to the database.
pub(crate) fn open_all(cx: &mut Context<'_>) -> Result<(), Fault> {
    unfence(cx)?;
    let start = cx.target.hooks.workers_start.clone();
    cx.hooks("workers_start", &start)
}

/// Lets the game's own accounts back to the database, as often as it is asked to.
pub(crate) fn unfence(cx: &mut Context<'_>) -> Result<(), Fault> {
    if cx.plan.holds() {
        // It fenced nobody.
        return Ok(());
    }
    let intent = intent(cx);
    if let Some(mut database) = cx.database()? {
        database.unfence(intent.as_ref()).doing("lifting the fence of the database")?;
    }
    Ok(())
}

/// Fences again before a rollback point comes back, as far as that can be had.
pub(crate) fn fence_again(cx: &mut Context<'_>) -> Result<(), Fault> {
    let limit_ms = cx.target.pace.fence_ms;
    let stop = cx.target.hooks.workers_stop.clone();
    cx.hooks("workers_stop", &stop)?;
    if cx.plan.holds() {
        return Ok(());
    }
    Close.fence(cx, limit_ms).map(|_| ())
}

fn state(cx: &Context<'_>) -> Option<StepState> {
    state_of(cx, |step| matches!(step, Step::Close {}))
}

fn has_begun(state: &StepState) -> bool {
    !matches!(state, StepState::Pending | StepState::Failed { before: None, .. })
}

/// Where a step stands, as the journal has it.
fn state_of(cx: &Context<'_>, wanted: impl Fn(Step) -> bool) -> Option<StepState> {
    let log = cx.store.entries(cx.plan.id, 0).ok()?;
    let mut progress = entracte_model::progress::fold(&cx.plan, &log).ok()?;
    let id = cx.plan.find(wanted)?;
    Some(progress.steps.swap_remove(id.0))
}

/// What was true before the first fence of this release.
fn intent(cx: &Context<'_>) -> Option<FenceProof> {
    let state = state(cx)?;
    let before = serde_json::from_value::<Before>(state.before()?.clone()).ok()?;
    before.fence
}

/// When the game was closed, if it is.
pub(crate) fn closed_at(cx: &Context<'_>) -> Option<UnixMs> {
    let closing = |step| matches!(step, Step::Close {} | Step::Hold { .. });
    match state_of(cx, closing)? {
        StepState::Done { receipt, .. } => {
            serde_json::from_value::<Receipt>(receipt).ok().map(|receipt| receipt.closed_at)
        }
        _ => None,
    }
}
