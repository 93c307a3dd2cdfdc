//! Switch: the live tree and the staged one change places, in one system call; or a link is
//! pointed elsewhere; or file by file, where neither is possible.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use entracte_host::op::Op;
use entracte_model::journal::Fault;
use entracte_model::plan::Step;
use entracte_model::progress::Probe;
use entracte_package::inplace::Swap;
use entracte_package::persist;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, keep, recall};
use crate::context::Context;
use crate::fault::{Doing, refused};
use crate::gate_goal;
use crate::target::Layout;
use entracte_model::Manifest;
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
    /// With links: the folders that root and slot led to.
    #[serde(default)]
    trees: Option<(PathBuf, PathBuf)>,
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
        let trees = match cx.target.layout {
            Layout::Symlink => Some((real(&root)?, real(&slot)?)),
            Layout::Exchange | Layout::Inplace => None,
        };
        let (live_inode, staged_inode) = (there(&root)?, there(&slot)?);
        keep(&Before { root, slot, live_inode, staged_inode, trees })
    }

    fn run(&self, cx: &mut Context<'_>, before: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::Switch {});
        let before: Before = recall(before)?;
        // The first release moves what persists out of the live tree. Repeated, it finds it moved.
        // In place nothing has to move: what belongs to no version is not touched.
        if cx.target.layout != Layout::Inplace {
            persist::adopt(&cx.target.root, &cx.target.shared(), &cx.target.persist)
                .doing("moving persistent files beside the game")?;
        }
        forward(cx, &before)?;
        let reload = cx.target.hooks.reload.clone();
        cx.hooks("reload", &reload)?;
        Ok(json!({ "slot": before.slot }))
    }

    fn probe(&self, _: &mut Context<'_>, before: &Value) -> Probe {
        let Ok(before) = recall::<Before>(before) else {
            return Probe::Unclear("the journal holds something else".into());
        };
        match (inode(&before.root), inode(&before.slot)) {
            // Between two links, the one may be there and the other not yet: run does the rest.
            (Some(root), Some(_))
                if before.trees.is_some()
                    && [before.live_inode, before.staged_inode].contains(&root) =>
            {
                Probe::NotDone
            }
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
        back(cx, before)?;
        let reload = cx.target.hooks.reload.clone();
        cx.hooks("reload", &reload)
    }
}

/// Puts the staged tree in the live one's place. Repeated, it finds it there.
fn forward(cx: &mut Context<'_>, before: &Before) -> Result<(), Fault> {
    match (cx.target.layout, &before.trees) {
        (Layout::Inplace, _) => {
            let (old, new) = manifests(cx)?;
            let swap = Swap { root: &before.root, slot: &before.slot, old: &old, new: &new };
            swap.forward(&|| Ok(())).doing("replacing the files of the game")
        }
        (_, Some((live, staged))) => {
            if ![Some(before.live_inode), Some(before.staged_inode)].contains(&inode(&before.root))
            {
                let root = before.root.display();
                return Err(refused(format!("{root} was pointed elsewhere by somebody else")));
            }
            points_to(cx, &before.root, staged)?;
            points_to(cx, &before.slot, live)
        }
        (_, None) if inode(&before.root) == Some(before.staged_inode) => Ok(()),
        (_, None) => exchange(cx, before),
    }
}

fn back(cx: &mut Context<'_>, before: Before) -> Result<(), Fault> {
    match (cx.target.layout, &before.trees) {
        (Layout::Inplace, _) => {
            let (old, new) = manifests(cx)?;
            let swap = Swap { root: &before.root, slot: &before.slot, old: &old, new: &new };
            swap.back(&|| Ok(())).doing("putting the files of the game back")
        }
        (_, Some((live, staged))) => {
            points_to(cx, &before.root, live)?;
            points_to(cx, &before.slot, staged)
        }
        (_, None) if inode(&before.root) == Some(before.staged_inode) => {
            let (live_inode, staged_inode) = (before.staged_inode, before.live_inode);
            exchange(cx, &Before { live_inode, staged_inode, ..before })
        }
        (_, None) => Ok(()),
    }
}

/// What the live tree holds before and after this release.
fn manifests(cx: &Context<'_>) -> Result<(Manifest, Manifest), Fault> {
    let read = |hash| cx.store.manifest(hash).doing("reading the store");
    let old = cx.plan.from.as_ref().map(|base| read(&base.manifest)).transpose()?;
    Ok((old.unwrap_or_default(), read(&cx.plan.to.manifest)?))
}

/// Lets a link lead to `tree`, durably. Repeated, it finds it so.
pub(crate) fn points_to(cx: &mut Context<'_>, link: &Path, tree: &Path) -> Result<(), Fault> {
    let op = Op::PointLink { link: link.to_owned(), to: tree.to_owned() };
    cx.host.call(&op, &mut |_| {}).doing("pointing the link at the tree")?;
    Ok(())
}

fn real(path: &Path) -> Result<PathBuf, Fault> {
    path.canonicalize().doing("finding the tree that a link leads to")
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

/// The inode of a folder, or of the one that a link leads to, which tells two trees apart whatever
/// they are called.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|meta| meta.ino())
}
