//! Two file systems, and mounts inside a tree.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use entracte_host::{Host, HostError, Local, Op, Reply, tree};
use entracte_testbed::alone::in_own_namespace;

fn call(op: &Op) -> Result<Reply, HostError> {
    Local.call(op, &mut |_| {})
}

fn tree_at(path: &Path, text: &str) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("index.php"), text).unwrap();
}

fn mount(arguments: &[&str], at: &Path) {
    let status = Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(status.success(), "mount {arguments:?} {}", at.display());
}

#[test]
fn an_exchange_across_file_systems_is_refused_with_a_way_out() {
    if !in_own_namespace("an_exchange_across_file_systems_is_refused_with_a_way_out") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &other);
    let (a, b) = (dir.path().join("game"), other.join("staged"));
    tree_at(&a, "old");
    tree_at(&b, "new");
    assert_ne!(fs::metadata(&a).unwrap().dev(), fs::metadata(&b).unwrap().dev());
    let refused = call(&Op::Exchange { a: a.clone(), b }).unwrap_err();
    assert!(matches!(refused, HostError::OtherFileSystem { .. }), "{refused}");
    assert!(refused.to_string().contains("symlink"), "{refused}");
    assert_eq!(fs::read_to_string(a.join("index.php")).unwrap(), "old");
}

#[test]
fn the_same_device_behind_two_mounts_is_refused_too() {
    if !in_own_namespace("the_same_device_behind_two_mounts_is_refused_too") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, bound) = (dir.path().join("store"), dir.path().join("bound"));
    tree_at(&store.join("staged"), "new");
    fs::create_dir(&bound).unwrap();
    mount(&["--bind", store.to_str().unwrap()], &bound);
    let (a, b) = (dir.path().join("game"), bound.join("staged"));
    tree_at(&a, "old");
    assert_eq!(fs::metadata(&a).unwrap().dev(), fs::metadata(&b).unwrap().dev());
    let refused = call(&Op::Exchange { a, b }).unwrap_err();
    assert!(matches!(refused, HostError::OtherFileSystem { .. }), "{refused}");
}

#[test]
fn a_mount_point_is_not_exchanged() {
    if !in_own_namespace("a_mount_point_is_not_exchanged") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("game"), dir.path().join("staged"));
    tree_at(&a, "old");
    tree_at(&b, "new");
    mount(&["--bind", a.to_str().unwrap()], &a);
    let refused = call(&Op::Exchange { a, b }).unwrap_err();
    assert!(matches!(refused, HostError::MountPoint { .. }), "{refused}");
}

#[test]
fn a_tree_with_the_players_uploads_mounted_inside_is_not_removed() {
    if !in_own_namespace("a_tree_with_the_players_uploads_mounted_inside_is_not_removed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (old, uploads) = (dir.path().join("old"), dir.path().join("uploads kept"));
    let marker = tree::mark(&old).unwrap();
    tree_at(&old.join("uploads"), "");
    tree_at(&uploads, "an avatar");
    mount(&["--bind", uploads.to_str().unwrap()], &old.join("uploads"));
    let refused = call(&Op::RemoveTree { path: old.clone(), marker: marker.clone() }).unwrap_err();
    assert!(matches!(refused, HostError::MountPoint { .. }), "{refused}");
    assert_eq!(fs::read_to_string(uploads.join("index.php")).unwrap(), "an avatar");

    let status = Command::new("umount").arg(old.join("uploads")).status().unwrap();
    assert!(status.success());
    let reply = call(&Op::RemoveTree { path: old.clone(), marker }).unwrap();
    assert_eq!(reply, Reply::Removed { existed: true });
    assert!(!old.exists() && uploads.join("index.php").exists());
}

#[test]
fn a_full_file_system_keeps_the_old_state() {
    if !in_own_namespace("a_full_file_system_keeps_the_old_state") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], dir.path());
    let state = dir.path().join("state.json");
    entracte_host::durable::write(&state, b"old", 0o600).unwrap();
    let error = entracte_host::durable::write(&state, &[b'x'; 128 * 1024], 0o600).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(28));
    assert_eq!(fs::read(&state).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");

    let paths: Vec<PathBuf> = vec![dir.path().into(), "/proc".into()];
    let Reply::Facts { facts } = call(&Op::Facts { paths }).unwrap() else {
        panic!("facts are expected")
    };
    assert!(facts.paths[0].free_bytes <= 64 * 1024);
    assert!(facts.paths[0].free_inodes.is_some());
    assert_eq!(facts.paths[1].free_inodes, None);
}
