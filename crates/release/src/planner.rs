//! The planner: from a package, or from a wish to go back, to the steps in their order.

use std::collections::BTreeMap;
use std::path::Path;

use entracte_model::plan::{FORMAT, Plan, Planned, Range, ReleaseId, Source, Step};
use entracte_model::record::Record;
use entracte_model::time::human_ms;
use entracte_model::way::Choice;

use crate::history;
use crate::rehearse::{self, Rehearsal};
use crate::store::{Store, StoreError};
use crate::target::Target;
use crate::ways;

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// Nothing to go back from.
    #[error("production has had no release of Entracte, so there is nothing to go back to")]
    NothingToUndo,
    /// Only the last release can be undone.
    #[error("{asked} is not what production holds; that is {current}, and it has to go first")]
    NotTheLast {
        /// The release asked for.
        asked: ReleaseId,
        /// The one that production holds.
        current: ReleaseId,
    },
    /// The last release went back itself.
    #[error(
        "the last release was the rollback of {0}; to have its version again, pack and deploy it again"
    )]
    RollbackOfRollback(ReleaseId),
    /// The first installation replaced nothing.
    #[error("{0} was the first installation: there is no earlier version to go back to")]
    First(ReleaseId),
}

/// Plans the installation of a package.
pub fn deploy(
    target: &Target,
    store: &Store,
    record: &Record,
    archive: &Path,
) -> Result<Plan, PlanError> {
    let data: &[Step] = match record.scripts.is_empty() {
        true => &[],
        false => &[Step::WindowCopy {}, Step::Migrate {}],
    };
    let rehearsal = rehearse::last(store, &record.version.to_string())?;
    let point = match data.is_empty() {
        true => None,
        false => ways::choose(target, store, rehearsal.as_ref())?,
    };
    let steps =
        steps(target, store, data, Known { rehearsal: rehearsal.as_ref(), point: point.as_ref() })?;
    Ok(Plan {
        format: FORMAT,
        id: store.next_release()?,
        project: target.project.clone(),
        environment: target.environment.clone(),
        from: record.base.clone(),
        to: entracte_model::record::Base {
            version: record.version.clone(),
            manifest: record.manifest,
        },
        sequence: record.sequence,
        source: Source::Package { archive: archive.display().to_string() },
        scripts: record.scripts.iter().map(|script| script.name.to_string()).collect(),
        closed: Plan::closed_of(&steps),
        steps,
        point,
    })
}

/// Plans the way back from the release that production holds.
///
/// With `with_data` its rollback point replaces the database, and all that was played since is
/// lost; without, the files go back and the database stays as it is.
pub fn rollback(
    target: &Target,
    store: &Store,
    asked: Option<ReleaseId>,
    with_data: bool,
) -> Result<Plan, PlanError> {
    let current = store.production()?.ok_or(PlanError::NothingToUndo)?;
    if current.release.0 == 0 {
        return Err(PlanError::NothingToUndo);
    }
    if let Some(asked) = asked
        && asked != current.release
    {
        return Err(PlanError::NotTheLast { asked, current: current.release });
    }
    let undone = store.release(current.release)?.plan;
    if let Source::Kept { undoes, .. } = undone.source {
        return Err(PlanError::RollbackOfRollback(undoes));
    }
    let to = undone.from.clone().ok_or(PlanError::First(current.release))?;
    let data: &[Step] = if with_data { &[Step::WindowCopy {}, Step::Restore {}] } else { &[] };
    let point = if with_data { ways::choose(target, store, None)? } else { None };
    let steps = steps(target, store, data, Known { rehearsal: None, point: point.as_ref() })?;
    Ok(Plan {
        format: FORMAT,
        id: store.next_release()?,
        project: target.project.clone(),
        environment: target.environment.clone(),
        from: Some(current.base),
        to,
        sequence: current.sequence + 1,
        source: Source::Kept { undoes: current.release, with_data },
        scripts: vec![],
        closed: Plan::closed_of(&steps),
        steps,
        point,
    })
}

/// What is known beforehand of how long steps take.
#[derive(Clone, Copy)]
struct Known<'a> {
    rehearsal: Option<&'a Rehearsal>,
    point: Option<&'a Choice>,
}

/// All steps, with `data` being those that touch the database. Where there are none and the window
/// should be over before players notice, requests wait instead of meeting a closed game, if the gate
/// is one that can let them.
fn steps(
    target: &Target,
    store: &Store,
    data: &[Step],
    known: Known<'_>,
) -> Result<Vec<Planned>, StoreError> {
    let with = |closing: &[Step]| {
        let before = [Step::Preflight {}, Step::Stage {}, Step::Backup {}];
        let all = [&before, closing, data, &[Step::Switch {}], &opening(target)].concat();
        expect(&all, store, known)
    };
    let limit_ms = target.pace.hold_ms;
    if data.is_empty() && limit_ms > 0 && crate::front::capabilities(target).can_hold {
        let held = with(&[Step::Hold { limit_ms }])?;
        if Plan::closed_of(&held).p90_ms <= limit_ms {
            return Ok(held);
        }
    }
    with(&closing(target))
}

fn closing(target: &Target) -> Vec<Step> {
    // A server that was told neither logins nor session cookies could close nothing, nor count who
    // is left: to wait for that would only be a wait.
    let drains = target
        .front
        .as_ref()
        .is_none_or(|front| !(front.login.is_empty() && front.session_cookies.is_empty()));
    let drain = drains.then_some(Step::Drain { deadline_ms: target.pace.drain_ms });
    [Step::Announce { notice_ms: target.pace.notice_ms }]
        .into_iter()
        .chain(drain)
        .chain([Step::Close {}])
        .collect()
}

fn opening(target: &Target) -> [Step; 5] {
    [
        Step::Smoke {},
        Step::Reopen {},
        Step::Tell {},
        Step::Watch { for_ms: target.pace.watch_ms },
        Step::Retire {},
    ]
}

/// Adds to each step what it should take: as configured where that decides, as rehearsed where
/// it was, as the last releases took, and a plain guess for the very first.
fn expect(steps: &[Step], store: &Store, known: Known<'_>) -> Result<Vec<Planned>, StoreError> {
    let past = history::past(store)?;
    let planned = |step: &Step| Planned { step: *step, expected: expected(*step, &past, known) };
    Ok(steps.iter().map(planned).collect())
}

fn expected(step: Step, past: &BTreeMap<&'static str, Vec<u64>>, known: Known<'_>) -> Range {
    let exactly = |ms| Range { p50_ms: ms, p90_ms: ms };
    let point = known.point.and_then(Choice::taken);
    match (step, known.rehearsal) {
        (Step::Announce { notice_ms }, _) => return exactly(notice_ms),
        (Step::Watch { for_ms }, _) => return exactly(for_ms),
        (Step::Migrate {}, Some(rehearsal)) => return around(rehearsal.migrate_ms),
        (Step::WindowCopy {}, Some(rehearsal)) if point.is_none() => {
            return around(rehearsal.point_ms);
        }
        (Step::WindowCopy {}, _) => {
            if let Some(point) = point {
                return around(point.window_ms);
            }
        }
        _ => {}
    }
    let past = past.get(step.name()).and_then(|durations| history::range(durations));
    past.unwrap_or_else(|| around(guess_ms(step)))
}

/// One figure says little about the next run: nine of ten should stay within three times.
fn around(ms: u64) -> Range {
    Range { p50_ms: ms, p90_ms: ms.saturating_mul(3) }
}

/// What a step of a small game takes, in milliseconds, where nothing at all is known.
fn guess_ms(step: Step) -> u64 {
    match step {
        Step::Preflight {} | Step::Stage {} => 500,
        Step::Backup {} => 2_000,
        Step::Drain { deadline_ms } => deadline_ms,
        Step::WindowCopy {} | Step::Migrate {} | Step::Restore {} => 1_000,
        Step::Close {} | Step::Hold { .. } | Step::Smoke {} => 300,
        Step::Switch {} | Step::Reopen {} | Step::Tell {} | Step::Retire {} => 100,
        Step::Announce { notice_ms } => notice_ms,
        Step::Watch { for_ms } => for_ms,
    }
}

/// The plan for people, as in `INSTALL.md` and `entracte plan`.
pub fn explain(plan: &Plan) -> String {
    use std::fmt::Write;
    let from = plan.from.as_ref().map_or("nothing".to_owned(), |base| base.version.to_string());
    let mut text = format!(
        "# Installation of {} {}\n\nFrom {from} to {}, on {}. Carried out by `entracte deploy`; \
         the same by hand is these steps in this order.\n\n| step | what is done | expected |\n|---|---|---|\n",
        plan.project, plan.to.version, plan.to.version, plan.environment
    );
    for planned in &plan.steps {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            planned.step.name(),
            what(planned.step, plan),
            planned.expected
        );
    }
    let _ = write!(
        text,
        "\n{}.\nIf anything fails up to the reopening, files and data come back as they were.\n",
        window(plan)
    );
    text
}

/// What players will notice of the window, for people.
pub fn window(plan: &Plan) -> String {
    let limit = plan.steps.iter().find_map(|planned| match planned.step {
        Step::Hold { limit_ms } => Some(limit_ms),
        _ => None,
    });
    match limit {
        Some(limit_ms) => format!(
            "Requests wait, predicted: {}; the page is shown after {}",
            plan.closed,
            human_ms(limit_ms)
        ),
        None => format!("Predicted closed time: {}", plan.closed),
    }
}

/// What a step does, for people.
pub fn what(step: Step, plan: &Plan) -> String {
    match step {
        Step::Preflight {} => {
            "check the package, production, database, gate, backups and disk".into()
        }
        Step::Stage {} => "build the new tree beside the live one and verify every file".into(),
        Step::Backup {} => "back up source and database while the game runs".into(),
        Step::Announce { .. } => "tell the players when the game closes".into(),
        Step::Drain { .. } => "close the login; players who are in finish".into(),
        Step::Close {} => "close the game, stop workers, prove that nobody writes".into(),
        Step::Hold { .. } => "let requests wait inside the gate, stop workers".into(),
        Step::WindowCopy {} => match plan.point.as_ref().and_then(Choice::taken) {
            Some(point) => format!("take the exact rollback point: {}", point.way.what()),
            None => "take the exact point that the database can return to".into(),
        },
        Step::Migrate {} => format!("run {}", plan.scripts.join(", ")),
        Step::Restore {} => "bring the database back to its earlier rollback point".into(),
        Step::Switch {} => "exchange the trees and reload".into(),
        Step::Smoke {} => "test the game through the gate, as a tester".into(),
        Step::Reopen {} => "start workers and let the players in".into(),
        Step::Tell {} => "publish the patch notes".into(),
        Step::Watch { .. } => "watch errors, slowness and probes".into(),
        Step::Retire {} => "remove trees and rollback points that retention no longer keeps".into(),
    }
}
