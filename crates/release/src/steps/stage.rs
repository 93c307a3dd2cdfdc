//! Stage: the new tree is built beside the live one, and verified file by file.

use std::path::PathBuf;

use entracte_model::journal::Fault;
use entracte_model::plan::Source;
use entracte_model::progress::Probe;
use entracte_model::{Manifest, RelPath};
use entracte_package::stage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::preflight::new_manifest;
use super::switch::{inode, points_to};
use super::{Act, keep, recall};
use crate::context::Context;
use crate::fault::{Doing, broken, refused};
use crate::target::Layout;

pub(crate) struct Stage;

#[derive(Serialize, Deserialize)]
struct Before {
    slot: PathBuf,
    /// Where the new tree is built, if it is not the slot itself.
    #[serde(default)]
    tree: Option<PathBuf>,
    /// The live tree: a slot that holds it must never be removed.
    live_inode: Option<u64>,
}

impl Act for Stage {
    fn before(&self, cx: &mut Context<'_>) -> Result<Value, Fault> {
        let slot = match cx.plan.source {
            Source::Package { .. } => cx.target.slot(cx.plan.id),
            Source::Kept { undoes, .. } => cx.target.slot(undoes),
        };
        let tree = match cx.target.layout {
            Layout::Symlink => Some(cx.target.tree(cx.plan.id, &cx.plan.to.version)),
            Layout::Exchange | Layout::Inplace => None,
        };
        keep(&Before { slot, tree, live_inode: inode(&cx.target.root) })
    }

    fn run(&self, cx: &mut Context<'_>, before: &Value) -> Result<Value, Fault> {
        let before: Before = recall(before)?;
        let Some(archive) = cx.archive()? else { return kept(cx, &before.slot) };
        let new = new_manifest(cx, &archive)?;
        let base = match &cx.plan.from {
            Some(base) => cx.store.manifest(&base.manifest).doing("reading the store")?,
            None => Manifest::default(),
        };
        prepare_root(cx)?;
        let target = cx.target;
        let request = stage::Request {
            live: &target.root,
            staged: before.tree.as_ref().unwrap_or(&before.slot),
            base: &base,
            new: &new,
            archive: &archive,
            persist: &target.persist,
            persist_from: &target.shared(),
            hardlink: target.hardlink,
        };
        let stop = cx.stop.clone();
        let staged =
            stage::build(&request, &mut |p| cx.progress(p.done, p.total, p.unit, &p.note), &stop)
                .map_err(|error| {
                cx.safe_point("staging")
                    .err()
                    .unwrap_or_else(|| broken("staging the new tree", &error))
            })?;
        volatile(cx, request.staged)?;
        if let Some(tree) = &before.tree {
            points_to(cx, &before.slot, tree)?;
        }
        cx.store.keep_manifest(&new).doing("keeping the manifest")?;
        cx.info(format!(
            "{} files from the package, {} shared with the live tree, {} copied",
            staged.written,
            staged.linked + staged.reflinked,
            staged.copied
        ));
        Ok(json!({
            "written": staged.written, "linked": staged.linked,
            "reflinked": staged.reflinked, "copied": staged.copied,
        }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        // Building again removes what a dead builder left; nothing outside the slot was touched.
        Probe::NotDone
    }

    fn undo(&self, cx: &mut Context<'_>, before: &Value) -> Result<(), Fault> {
        let before: Before = recall(before)?;
        if matches!(cx.plan.source, Source::Kept { .. }) {
            return Ok(());
        }
        let tree = before.tree.as_ref().unwrap_or(&before.slot);
        if inode(tree).is_some() && inode(tree) == before.live_inode {
            return Err(refused("the slot holds the tree that was live; it is not removed"));
        }
        if before.tree.is_some() && before.slot.is_symlink() {
            std::fs::remove_file(&before.slot).doing("removing the link to the staged tree")?;
        }
        stage::remove(tree).doing("removing the staged tree")
    }
}

/// A rollback stages nothing; it makes sure that the kept tree is still what it was.
fn kept(cx: &mut Context<'_>, slot: &std::path::Path) -> Result<Value, Fault> {
    let expected = cx.store.manifest(&cx.plan.to.manifest).doing("reading the store")?;
    let outside = cx.target.outside();
    let whole = stage::probe(slot, &expected, &outside).doing("reading the kept tree")?;
    if !whole {
        return Err(refused(format!(
            "the kept tree of {} is not there any more, or was changed",
            cx.plan.to.version
        ))
        .hint("`entracte backup list` shows the source backups; deploy one as a new version"));
    }
    cx.info(format!("the kept tree of {} is whole", cx.plan.to.version));
    Ok(Value::Null)
}

/// With `layout = "symlink"` a root that is a real folder is nothing that can be pointed elsewhere.
pub(crate) fn is_a_link(cx: &Context<'_>) -> Result<(), Fault> {
    let root = &cx.target.root;
    if cx.target.layout != Layout::Symlink || root.is_symlink() || !root.exists() {
        return Ok(());
    }
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(refused(format!("{} is a real folder, and `layout` is symlink", root.display())).hint(
        format!(
            "while the game is closed: mkdir releases && mv {name} releases/first && ln -s releases/first {name}"
        ),
    ))
}

/// A first installation finds no tree to exchange with: an empty one is made.
fn prepare_root(cx: &mut Context<'_>) -> Result<(), Fault> {
    let root = cx.target.root.clone();
    let first = match cx.target.layout {
        Layout::Symlink => root.with_file_name("releases").join("first"),
        Layout::Exchange | Layout::Inplace => root.clone(),
    };
    let first = if root.exists() { root.clone() } else { first };
    make(&[&first, &cx.target.shared(), &cx.target.beside().join("trees")])?;
    if cx.target.layout == Layout::Symlink {
        make(&[&root.with_file_name("releases")])?;
        if !root.exists() {
            points_to(cx, &root, &first)?;
        }
    }
    Ok(())
}

fn make(folders: &[&PathBuf]) -> Result<(), Fault> {
    for folder in folders {
        let doing = format!("making {}, beside the game", folder.display());
        std::fs::create_dir_all(folder)
            .doing(&doing)
            .map_err(|fault| fault.hint("let the user of `entracte` write there"))?;
    }
    Ok(())
}

/// Each version begins with empty caches, owned as the live ones are.
fn volatile(cx: &Context<'_>, slot: &std::path::Path) -> Result<(), Fault> {
    for path in &cx.target.volatile {
        let (live, new) = (cx.target.root.join(path), slot.join(path));
        std::fs::create_dir_all(&new).doing("making an empty cache folder")?;
        like(&live, &new, path)?;
    }
    Ok(())
}

fn like(live: &std::path::Path, new: &std::path::Path, path: &RelPath) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::metadata(live) else { return Ok(()) };
    std::fs::set_permissions(new, meta.permissions()).doing("setting a cache folder's mode")?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(new, Some(meta.uid()), Some(meta.gid()))
            .map_err(|error| broken(&format!("giving {path} its owner"), &error))?;
    }
    Ok(())
}
