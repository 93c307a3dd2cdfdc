//! kill -9 at each effect of the switch: either name always shows one whole tree.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use entracte_host::{Host, Local, Op, tree};

fn tree_at(path: &Path, text: &str) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("index.php"), text).unwrap();
}

fn text(tree: &Path) -> String {
    fs::read_to_string(tree.join("index.php")).unwrap()
}

/// Not a test by itself: what the process that is killed does.
#[test]
fn helper_carries_out_an_operation() {
    let Ok(op) = std::env::var("OPERATION") else { return };
    let op: Op = serde_json::from_str(&op).unwrap();
    Local.call(&op, &mut |_| {}).unwrap();
}

/// Carries `op` out in another process that is killed at `label`.
fn killed_at(label: &str, op: &Op) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_carries_out_an_operation", "--nocapture"])
        .env("OPERATION", serde_json::to_string(op).unwrap())
        .env("ENTRACTE_FAULT", format!("{label}=KILL"))
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{label} was never reached");
}

#[test]
fn a_killed_exchange_shows_both_trees_whole() {
    for (label, live) in
        [("exchange.swap", "old"), ("exchange.sync", "new"), ("durable.sync-dir", "new")]
    {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("game"), dir.path().join("staged"));
        tree_at(&a, "old");
        tree_at(&b, "new");
        killed_at(label, &Op::Exchange { a: a.clone(), b: b.clone() });
        assert_eq!(text(&a), live, "{label}");
        assert_ne!(text(&b), live, "{label}");
    }
}

#[test]
fn a_killed_move_of_the_link_is_finished_by_repeating_it() {
    for (label, live) in [("link.create", "old"), ("link.rename", "old"), ("link.sync", "new")] {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        tree_at(&dir.path().join("v1.0"), "old");
        tree_at(&dir.path().join("v1.1"), "new");
        let op = |to: &str| Op::PointLink { link: link.clone(), to: to.into() };
        Local.call(&op("v1.0"), &mut |_| {}).unwrap();
        killed_at(label, &op("v1.1"));
        assert_eq!(text(&link), live, "{label}");
        Local.call(&op("v1.1"), &mut |_| {}).unwrap();
        assert_eq!(text(&link), "new", "{label}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "{label}");
    }
}

#[test]
fn a_killed_removal_never_leaves_half_a_tree_under_its_name() {
    for label in ["remove.rename", "remove.tree", "remove.marker"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v1.0");
        let marker = tree::mark(&path).unwrap();
        tree_at(&path, "old");
        let op = Op::RemoveTree { path: path.clone(), marker };
        killed_at(label, &op);
        assert!(!path.exists() || text(&path) == "old", "{label}");
        Local.call(&op, &mut |_| {}).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{label}");
    }
}
