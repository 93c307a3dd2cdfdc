//! A disk that is full, or refuses: nothing unfinished stands under a finished name.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use common::{Variant, game, quiet, run, scanned, write};
use entracte_package::{PackageError, stage};

/// A small file system of its own, unmounted in the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let output = run("mount", &[&"-t", &"tmpfs", &"-o", &size, &"tmpfs", &dir.path()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "a tmpfs could not be mounted ({said}); run these tests as root, or in a user \
             namespace: unshare --map-root-user --mount cargo test -p entracte-package"
        );
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.0.path()]);
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    // Not compressible: a linear congruential generator.
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn is_full(error: &PackageError) -> bool {
    matches!(error, PackageError::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}

fn names(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn packing_to_a_full_disk_leaves_nothing_behind() {
    let game = game();
    write(&game.dev, "large.bin", noise(600 * 1024));
    // Too small for the folder; large enough for it but not for the archive as well.
    for size in ["256k", "1m"] {
        let disk = Disk::new(size);
        let variant = Variant { out: disk.path().to_owned(), ..game.variant() };
        let error = game.pack_as(&variant).unwrap_err();
        assert!(is_full(&error), "{size}: {error:?}");
        assert_eq!(names(disk.path()), [] as [PathBuf; 0], "{size}");
    }
    let disk = Disk::new("4m");
    let variant = Variant { out: disk.path().to_owned(), ..game.variant() };
    let packed = game.pack_as(&variant).unwrap();
    assert_eq!(names(disk.path()).len(), 2);
    // An earlier package stays whole when the next does not fit.
    fs::write(disk.path().join("filler"), noise(2 * 1024 * 1024)).unwrap();
    let error = game.pack_as(&variant).unwrap_err();
    assert!(is_full(&error), "{error:?}");
    game.open(&packed.archive).unwrap().verify_all(&mut quiet()).unwrap();
}

#[test]
fn staging_on_a_full_disk_fails_and_works_when_there_is_room() {
    let game = game();
    write(&game.dev, "large.bin", noise(600 * 1024));
    let archive = game.open(&game.pack().archive).unwrap();
    let base = scanned(&game.live);
    let new = archive.new_manifest(&base).unwrap();
    let disk = Disk::new("1m");
    let filler = disk.path().join("filler");
    fs::write(&filler, noise(600 * 1024)).unwrap();
    let staged = disk.path().join("staged");
    let request = stage::Request {
        live: &game.live,
        staged: &staged,
        base: &base,
        new: &new,
        archive: &archive,
        persist: &[],
        persist_from: &game.path("shared"),
        // Across file systems: must fall back to copies.
        hardlink: true,
    };
    let error = stage::build(&request, &mut quiet(), &AtomicBool::new(false)).unwrap_err();
    assert!(is_full(&error), "{error:?}");
    fs::remove_file(&filler).unwrap();
    let counts = stage::build(&request, &mut quiet(), &AtomicBool::new(false)).unwrap();
    assert_eq!(counts.linked, 0);
    assert_eq!(scanned(&staged), scanned(&game.dev));
    stage::remove(&staged).unwrap();
    assert_eq!(names(disk.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_tree_with_something_mounted_below_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let uploads = tree.join("up loads");
    fs::create_dir_all(&uploads).unwrap();
    stage::mark(&tree).unwrap();
    let kept = Disk::new("64k");
    fs::write(kept.path().join("a.png"), "a player's").unwrap();
    let output = run("mount", &[&"--bind", &kept.path(), &uploads]);
    assert!(output.status.success());
    let refused = stage::remove(&tree);
    let still_there = kept.path().join("a.png").exists();
    let output = run("umount", &[&uploads]);
    assert!(output.status.success());
    assert!(matches!(refused, Err(PackageError::Stage(stage::StageFault::Mounted(_)))));
    assert!(still_there);
    stage::remove(&tree).unwrap();
}
