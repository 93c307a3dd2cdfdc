//! What a release asks of the gate.

use entracte_gate::external::Standing;
use entracte_model::UnixMs;
use entracte_model::gate::{Goal, Phase};
use entracte_model::journal::Fault;
use entracte_model::plan::Step;

use crate::context::Context;
use crate::fault::Doing;

/// Sets the gate's goal and returns what it says afterwards. The gate has it on disk by then.
pub(crate) fn set(
    cx: &mut Context<'_>,
    phase: Phase,
    edit: impl FnOnce(&mut Goal),
) -> Result<Standing, Fault> {
    let gate = cx.gate();
    let generation = gate.next_generation().doing("asking the gate for its generation")?;
    let reason = format!("release {} to {}", cx.plan.id, cx.plan.to.version);
    let mut goal = Goal {
        release: Some(cx.plan.id.to_string()),
        version: Some(cx.plan.to.version.to_string()),
        ..Goal::new(generation, phase, reason)
    };
    edit(&mut goal);
    gate.set(&goal).doing("setting the gate")
}

/// When the game should be open again, if it closes at `closing`: (half of all, nine of ten).
pub(crate) fn reopening(cx: &Context<'_>, closing: UnixMs) -> (UnixMs, UnixMs) {
    (closing + cx.plan.closed.p50_ms.max(1_000), closing + cx.plan.closed.p90_ms.max(1_000))
}

/// How far the closed window is when `step` begins, in percent.
pub(crate) fn percent(cx: &Context<'_>, step: Step) -> u8 {
    let inside = || cx.plan.steps.iter().filter(|planned| planned.step.in_window());
    let total: u64 = inside().map(|planned| planned.expected.p50_ms).sum();
    let done: u64 = inside()
        .take_while(|planned| planned.step != step)
        .map(|planned| planned.expected.p50_ms)
        .sum();
    u8::try_from((done * 100).checked_div(total).unwrap_or(0).min(99)).unwrap_or(99)
}

/// Tells the players who wait how far the work is. Players are not worth failing a release for:
/// the page simply keeps its last figure.
pub(crate) fn show_progress(cx: &mut Context<'_>, step: Step) {
    let Ok(status) = cx.gate().status() else { return };
    if status.phase != Phase::Closed {
        return;
    }
    let percent = percent(cx, step);
    let (p50, p90) = (status.goal.reopens_p50, status.goal.reopens_p90);
    let _ = set(cx, Phase::Closed, |goal| {
        goal.progress = Some(percent);
        goal.reopens_p50 = p50;
        goal.reopens_p90 = p90;
        goal.message = status.goal.message;
        goal.notes_url = status.goal.notes_url;
    });
}

/// What the gate last wrote down, for when it does not answer itself.
pub(crate) fn last_known(cx: &Context<'_>) -> Option<Goal> {
    cx.gate().last_known().map(|state| state.goal)
}

/// Whether this release asked for the goal.
pub(crate) fn asked_by(cx: &Context<'_>, goal: &Goal) -> bool {
    goal.release.as_deref() == Some(&cx.plan.id.to_string())
}

/// Whether the gate went on by itself to `later` phases, or was led there, for this release: what
/// it was asked for before is over, and it takes no order to go back to it.
pub(crate) fn is_past(cx: &Context<'_>, later: &[Phase]) -> bool {
    let status = cx.gate().status();
    status.is_ok_and(|status| asked_by(cx, &status.goal) && later.contains(&status.phase))
}

/// Whether the game is open because of this release.
pub(crate) fn opened_by(cx: &Context<'_>, goal: &Goal) -> bool {
    matches!(goal.phase, Phase::Reopening | Phase::Open) && asked_by(cx, goal)
}

/// The gate as it should be when nothing is going on.
pub(crate) fn open_again(cx: &mut Context<'_>) -> Result<(), Fault> {
    let current = cx.gate().status().doing("asking the gate")?;
    if current.phase == Phase::Open {
        return Ok(());
    }
    let from = cx.plan.from.as_ref().map(|base| base.version.to_string());
    set(cx, Phase::Open, |goal| {
        goal.release = None;
        goal.version = from;
        goal.reason = "taken back".into();
    })?;
    Ok(())
}
