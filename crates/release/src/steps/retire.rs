//! Retire: replaced trees and rollback points go, as far as retention allows, and packages that no
//! release can take any more.

use std::path::Path;

use entracte_model::journal::{Fault, Level, Outcome};
use entracte_model::plan::ReleaseId;
use entracte_model::progress::Probe;
use entracte_package::{archive, stage};
use serde_json::{Value, json};

use super::Act;
use super::window_copy::drop_point;
use crate::context::Context;
use crate::fault::{Doing, refused};

/// Releases looked at: anything older was retired by an earlier release.
const LOOKED_AT_MAX: u32 = 200;

pub(crate) struct Retire;

impl Act for Retire {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        let past = cx.store.releases(LOOKED_AT_MAX).doing("reading the store")?;
        let good: Vec<ReleaseId> = past
            .iter()
            .filter(|release| release.id != cx.plan.id)
            .filter(|release| matches!(release.outcome, Some(Outcome::Released { .. })))
            .map(|release| release.id)
            .collect();
        let gone = retired(&good, cx.target.keep);
        for id in &gone {
            // A clean-up that fails is a warning; the next release tries again.
            let removed = remove_slot(&cx.target.slot(*id), &cx.target.root);
            if let Err(fault) = removed.and_then(|()| drop_point(cx, *id)) {
                cx.say(Level::Warning, format!("{id} could not be retired: {}", fault.message));
            }
        }
        if let Err(fault) = remove_overtaken(cx) {
            cx.say(Level::Warning, format!("an arrived package is still there: {}", fault.message));
        }
        Ok(json!({ "retired": gone }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        Probe::NotDone
    }
}

/// Removes packages that arrived and were never released, once production is beyond them: no release
/// would take them any more. A crash can leave a part of one, which the next release removes.
fn remove_overtaken(cx: &mut Context<'_>) -> Result<(), Fault> {
    let Some(live) = cx.store.production().doing("reading the store")? else { return Ok(()) };
    for path in cx.target.arrived() {
        let what = match archive::open(&path, &cx.target.trusted_keys) {
            Ok(package) if package.record().sequence > live.sequence => continue,
            Ok(package) => {
                format!("{}, which arrived and was never released,", package.record().version)
            }
            Err(_) if !archive::has_arrived(&path) => "a part of a package".to_owned(),
            // Signed by a key that is not trusted now: not ours to judge.
            Err(_) => continue,
        };
        std::fs::remove_dir_all(&path).doing("removing a package that was overtaken")?;
        cx.info(format!("{what} was removed"));
    }
    Ok(())
}

/// Removes the tree that a release replaced. It was live once and carries no marker of ours until
/// retention gives it up here.
fn remove_slot(slot: &Path, root: &Path) -> Result<(), Fault> {
    if slot.is_symlink() {
        let tree = slot.canonicalize().doing("finding an old tree")?;
        if root.canonicalize().is_ok_and(|live| live == tree) {
            return Err(refused("it is the tree that is live"));
        }
        stage::mark(&tree).doing("giving an old tree up")?;
        stage::remove(&tree).doing("removing an old tree")?;
        return std::fs::remove_file(slot).doing("removing the link to an old tree");
    }
    if slot.exists() {
        stage::mark(slot).doing("giving an old tree up")?;
    }
    stage::remove(slot).doing("removing an old tree")
}

/// Which of the earlier good releases (newest first) no longer keep their tree and point.
///
/// Counted are verified releases only: failed ones can never evict a good one. This release's own
/// slot, the way back from it, is not in the list and always stays.
fn retired(good: &[ReleaseId], keep: usize) -> Vec<ReleaseId> {
    good.iter().skip(keep.saturating_sub(1)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let ids = |numbers: &[u64]| numbers.iter().copied().map(ReleaseId).collect::<Vec<_>>();
        assert_eq!(retired(&ids(&[9, 7, 6, 2]), 3), ids(&[6, 2]));
        assert_eq!(retired(&ids(&[9]), 3), ids(&[]));
        assert_eq!(retired(&ids(&[9, 7]), 0), ids(&[9, 7]));
    }
}
