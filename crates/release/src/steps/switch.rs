//! Switch: the live tree and the staged one change places, in one system call.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use entracte_host::op::Op;
use entracte_model::journal::Fault;
use entracte_model::plan::Step;
use entracte_model::progress::Probe;
use entracte_package::persist;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, keep, recall};
use crate::context::Context;
use crate::fault::{Doing, refused};
use crate::gate_goal;
use entracte_model::plan::Source;

pub(crate) struct Switch;

/// Which tree was where: after the exchange the inodes have changed places, and nothing else can
/// have done that.
#[derive(Serialize, Deserialize)]
struct Before {
    root: PathBuf,
    slot: PathBuf,
    live_inode: u64,
    staged_inode: u64,
}

impl Act for Switch {
    fn before(&self, cx: &mut Context<'_>) -> Result<Value, Fault> {
        let slot = match cx.plan.source {
            Source::Package { .. } => cx.target.slot(cx.plan.id),
            Source::Kept { undoes, .. } => cx.target.slot(undoes),
        };
        let root = cx.target.root.clone();
        let there = |path: &Path| {
            inode(path).ok_or_else(|| refused(format!("{} is not there", path.display())))
        };
        keep(&Before { live_inode: there(&root)?, staged_inode: there(&slot)?, root, slot })
    }

    fn run(&self, cx: &mut Context<'_>, before: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::Switch {});
        let before: Before = recall(before)?;
        // The first release moves what persists out of the live tree. Repeated, it finds it moved.
        persist::adopt(&cx.target.root, &cx.target.shared(), &cx.target.persist)
            .doing("moving persistent files beside the game")?;
        if inode(&before.root) != Some(before.staged_inode) {
            exchange(cx, &before)?;
        }
        let reload = cx.target.hooks.reload.clone();
        cx.hooks("reload", &reload)?;
        Ok(json!({ "slot": before.slot }))
    }

    fn probe(&self, _: &mut Context<'_>, before: &Value) -> Probe {
        let Ok(before) = recall::<Before>(before) else {
            return Probe::Unclear("the journal holds something else".into());
        };
        match (inode(&before.root), inode(&before.slot)) {
            (Some(root), Some(slot))
                if (root, slot) == (before.live_inode, before.staged_inode) =>
            {
                Probe::NotDone
            }
            // The exchange is there, but the reload may not be: run finds that and goes on.
            (Some(root), Some(slot))
                if (root, slot) == (before.staged_inode, before.live_inode) =>
            {
                Probe::NotDone
            }
            (root, slot) => Probe::Unclear(format!(
                "expected the inodes {} and {} in {} and {}, found {root:?} and {slot:?}",
                before.live_inode,
                before.staged_inode,
                before.root.display(),
                before.slot.display()
            )),
        }
    }

    fn undo(&self, cx: &mut Context<'_>, before: &Value) -> Result<(), Fault> {
        let before: Before = recall(before)?;
        if inode(&before.root) == Some(before.staged_inode) {
            let back = Before {
                live_inode: before.staged_inode,
                staged_inode: before.live_inode,
                ..before
            };
            exchange(cx, &back)?;
        }
        let reload = cx.target.hooks.reload.clone();
        cx.hooks("reload", &reload)
    }
}

/// One `renameat2(RENAME_EXCHANGE)`: at no moment is there no tree, or half of one.
fn exchange(cx: &mut Context<'_>, before: &Before) -> Result<(), Fault> {
    if inode(&before.root) != Some(before.live_inode) {
        return Err(refused(format!("{} was replaced by somebody else", before.root.display())));
    }
    let op = Op::Exchange { a: before.root.clone(), b: before.slot.clone() };
    cx.host.call(&op, &mut |_| {}).doing("exchanging the trees")?;
    Ok(())
}

/// The inode of a folder, which tells two trees apart whatever they are called.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|meta| meta.ino())
}
