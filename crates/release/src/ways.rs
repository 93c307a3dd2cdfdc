//! The ways to a rollback point on a target: asked of its database, costed by what was measured,
//! and chosen.

use std::path::Path;

use entracte_db::{Database, Point};
use entracte_model::journal::{Event, Fault};
use entracte_model::plan::Step;
use entracte_model::time::human_bytes;
use entracte_model::way::{self, Choice, Measured, Way};

use crate::context::Context;
use crate::fault::{Doing, refused};
use crate::history;
use crate::rehearse::Rehearsal;
use crate::store::{Store, StoreError};
use crate::target::Target;

/// How many earlier releases are looked at for what a way took.
const LOOKED_AT_MAX: u32 = 12;

/// Chooses the way for a release of the target. Nothing where there is no database, or where it
/// cannot be asked from here: then the release itself takes the best that is open.
pub(crate) fn choose(
    target: &Target,
    store: &Store,
    rehearsal: Option<&Rehearsal>,
) -> Result<Option<Choice>, StoreError> {
    let Some(settings) = &target.database else { return Ok(None) };
    let measured = measured(store, rehearsal)?;
    let Ok(mut database) = entracte_db::open(settings) else { return Ok(None) };
    let Ok(offers) = database.ways(&target.state.join("points")) else { return Ok(None) };
    let of = |way| measured.iter().find(|(known, _)| *known == way).map(|(_, m)| m.clone());
    Ok(Some(way::choose(&offers, target.point, of)))
}

/// What each way took: in the rehearsal of this version, else in the newest release that took it.
fn measured(
    store: &Store,
    rehearsal: Option<&Rehearsal>,
) -> Result<Vec<(Way, Measured)>, StoreError> {
    let mut known = Vec::new();
    if let Some(rehearsal) = rehearsal
        && let Some(way) = crate::steps::way_named(&rehearsal.point_way)
    {
        let measured = Measured {
            ahead_ms: Some(rehearsal.prepare_ms),
            window_ms: Some(rehearsal.point_ms),
            back_ms: Some(rehearsal.way_back_ms),
            bytes: Some(rehearsal.point_bytes),
        };
        known.push((way, measured));
    }
    for release in store.releases(LOOKED_AT_MAX)? {
        let log = store.entries(release.id, 0)?;
        let Some(step) = release.plan.find(|step| matches!(step, Step::WindowCopy {})) else {
            continue;
        };
        let took = history::durations(&log).into_iter().find(|took| took.step == step);
        let point = log.iter().find_map(|entry| match &entry.event {
            Event::Done { step: done, receipt } if *done == step => {
                serde_json::from_value::<Point>(receipt.get("point")?.clone()).ok()
            }
            _ => None,
        });
        if let (Some(took), Some(point)) = (took, point)
            && !known.iter().any(|(way, _)| *way == point.way.way())
        {
            let measured = Measured {
                window_ms: Some(took.ms),
                bytes: Some(point.bytes),
                ..Measured::default()
            };
            known.push((point.way.way(), measured));
        }
    }
    Ok(known)
}

/// Looks once more, before anything is begun, whether the way of the plan is still open and fits.
pub(crate) fn check(cx: &mut Context<'_>, database: &mut dyn Database) -> Result<(), Fault> {
    if cx.plan.find(|step| matches!(step, Step::WindowCopy {})).is_none() {
        return Ok(());
    }
    let dir: &Path = &cx.target.state.join("points");
    let offers = database.ways(dir).doing("asking for the ways to a rollback point")?;
    let choice = way::choose(&offers, cx.target.point, |_| None);
    let reasons = || {
        let all = choice.ways.iter();
        let said = all.map(|one| format!("{}: {}", one.way, one.why_not.as_deref().unwrap_or("")));
        said.collect::<Vec<_>>().join("; ")
    };
    let Some(taken) = choice.taken() else {
        let wished = cx.target.point.map_or(String::new(), |way| format!(" as {}", way.what()));
        let place = dir.display();
        return Err(refused(format!(
            "no rollback point{wished} can be taken in {place}: {}",
            reasons()
        ))
        .hint("make room, or look at `point` of the database in entracte.toml"));
    };
    let offer = offers.iter().find(|offer| offer.way == taken.way);
    let room = match offer.and_then(|offer| offer.free_bytes) {
        Some(free) => format!("{} are free", human_bytes(free)),
        None => "the disk of the server cannot be seen from here".to_owned(),
    };
    let needs = human_bytes(taken.disk_bytes);
    cx.info(format!("rollback point: {}, {needs} of disk ({room})", taken.way.what()));
    Ok(())
}
