//! Window copy: the exact point that the database returns to if anything fails.

use entracte_db::{Point, PointWay};
use entracte_model::journal::{Fault, Level};
use entracte_model::plan::{ReleaseId, Step};
use entracte_model::progress::Probe;
use entracte_model::time::human_bytes;
use entracte_model::way::{Way, Wish};
use serde_json::{Value, json};

use super::{Act, keep};
use crate::context::Context;
use crate::fault::{Doing, broken, chain, refused};
use crate::gate_goal;

pub(crate) struct WindowCopy;

impl Act for WindowCopy {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::WindowCopy {});
        let Some(mut database) = cx.database()? else { return Ok(Value::Null) };
        let dir = cx.target.point(cx.plan.id);
        // A point that nobody wrote down is taken again: what was prepared for it stays.
        match std::fs::remove_file(dir.join("point.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(broken("clearing an unfinished rollback point", &error));
            }
            _ => {}
        }
        database.wish_for(wish(cx));
        std::fs::create_dir_all(&dir).doing("making the rollback point's folder")?;
        let point = database
            .take_point(&dir, &mut |p| cx.progress(p.done, p.total, p.unit, &p.note))
            .doing(&format!("taking the rollback point in {}", dir.display()))?;
        let bytes = point.bytes;
        let way = way(&point);
        cx.info(format!("rollback point: {way} ({})", human_bytes(bytes)));
        for note in &point.notes {
            cx.say(Level::Warning, note.clone());
        }
        Ok(json!({ "bytes": bytes, "point": keep(&point)? }))
    }

    fn probe(&self, cx: &mut Context<'_>, _: &Value) -> Probe {
        match point_of(cx, cx.plan.id) {
            Ok(Some(point)) => match keep(&point) {
                Ok(point) => Probe::Done(json!({ "point": point })),
                Err(_) => Probe::NotDone,
            },
            Ok(None) => Probe::NotDone,
            Err(fault) => Probe::Unclear(fault.message),
        }
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        drop_point(cx, cx.plan.id)
    }
}

/// How a point was taken, for people.
pub(crate) fn way(point: &Point) -> &'static str {
    match point.way {
        PointWay::SqliteCopy { .. } => "a copy of the database",
        PointWay::MariadbFiles(_) => "copies of the table files",
        PointWay::MariadbBinlog(_) => "a dump made ahead and the binary log since",
        PointWay::MariadbDump(_) => "a dump of the tables",
        PointWay::PostgresClone(_) => "a clone of the database",
        PointWay::PostgresDump(_) => "a dump of the database",
    }
}

/// The way that [`way`] calls so.
pub(crate) fn way_named(text: &str) -> Option<Way> {
    Some(match text {
        "a copy of the database" => Way::Copy,
        "copies of the table files" => Way::Files,
        "a dump made ahead and the binary log since" => Way::Binlog,
        "a clone of the database" => Way::Clone,
        "a dump of the tables" | "a dump of the database" => Way::Dump,
        _ => return None,
    })
}

/// What the database is told of the way that the plan chose, or that the configuration asks for.
fn wish(cx: &Context<'_>) -> Wish {
    match (cx.target.point, &cx.plan.point) {
        (Some(way), _) => Wish::Only(way),
        (None, Some(choice)) => choice.wish(),
        (None, None) => Wish::Any,
    }
}

/// Does while the game runs what makes the rollback point quick to take, where the plan takes
/// one. What cannot be prepared costs closed time and nothing else: it is a warning.
pub(crate) fn prepare(cx: &mut Context<'_>) {
    if cx.plan.find(|step| matches!(step, Step::WindowCopy {})).is_none() {
        return;
    }
    let dir = cx.target.point(cx.plan.id);
    let database = match cx.database() {
        Ok(Some(database)) => Ok(database),
        Ok(None) => return,
        Err(fault) => Err(fault.message),
    };
    let wish = wish(cx);
    let prepared = database.and_then(|mut database| {
        database.wish_for(wish);
        database
            .prepare_point(&dir, &mut |p| cx.progress(p.done, p.total, p.unit, &p.note))
            .map_err(|error| chain(&error))
    });
    match prepared {
        Ok(None) => {}
        Ok(Some(0)) => {
            cx.info("the database's changes are on its disk, so the rollback point is nearer");
        }
        Ok(Some(bytes)) => {
            let bytes = human_bytes(bytes);
            cx.info(format!("rollback point prepared while the game runs ({bytes} copied)"));
        }
        Err(why) => {
            let text =
                format!("the closed time will be longer, nothing was prepared for it: {why}");
            cx.say(Level::Warning, text);
            give_up_prepared(cx);
        }
    }
}

/// Removes what was prepared for a point that is not taken.
pub(crate) fn give_up_prepared(cx: &mut Context<'_>) {
    let dir = cx.target.point(cx.plan.id);
    // A crash in the middle leaves files without their ledger, which the next attempt removes.
    let gone = std::fs::remove_dir_all(dir.join("ahead"));
    if let Err(error) = gone
        && error.kind() != std::io::ErrorKind::NotFound
    {
        let text = format!("what was prepared in {} stays: {error}", dir.display());
        cx.say(Level::Warning, text);
    }
    // Where that was all that it held.
    let _ = std::fs::remove_dir(&dir);
}

/// The complete rollback point of a release, if there is one.
pub(crate) fn point_of(cx: &Context<'_>, id: ReleaseId) -> Result<Option<Point>, Fault> {
    let dir = cx.target.point(id);
    if !dir.exists() {
        return Ok(None);
    }
    let Some(mut database) = cx.database()? else { return Ok(None) };
    database.probe_point(&dir).doing("looking at the rollback point")
}

/// Brings the database back to the rollback point of a release; proven by the caller's tests.
pub(crate) fn come_back(cx: &mut Context<'_>, id: ReleaseId) -> Result<(), Fault> {
    let Some(point) = point_of(cx, id)? else {
        return Err(refused(format!("the rollback point of {id} is not there, or not complete"))
            .hint("`entracte backup list` shows the dump that was taken before the closing"));
    };
    let Some(mut database) = cx.database()? else { return Ok(()) };
    database
        .restore_point(&point, &mut |p| cx.progress(p.done, p.total, p.unit, &p.note))
        .doing("bringing the database back to its rollback point")
}

/// Removes the rollback point of a release, complete or not.
pub(crate) fn drop_point(cx: &mut Context<'_>, id: ReleaseId) -> Result<(), Fault> {
    if let Some(point) = point_of(cx, id)?
        && let Some(mut database) = cx.database()?
    {
        database.drop_point(&point).doing("removing the rollback point")?;
    }
    match std::fs::remove_dir_all(cx.target.point(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(crate::fault::broken("removing the rollback point", &error))
        }
        _ => Ok(()),
    }
}
