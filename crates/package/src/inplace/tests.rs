use std::cell::Cell;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::scan::{self, Rules};

struct Trees {
    _dir: tempfile::TempDir,
    root: PathBuf,
    slot: PathBuf,
    old: Manifest,
    new: Manifest,
}

fn scanned(root: &Path) -> Manifest {
    let skip = vec!["uploads".parse().unwrap()];
    let rules = Rules { ignore_files: false, skip, file_bytes_max: u64::MAX };
    scan::tree(root, &rules, None, &mut |_| {}).unwrap().manifest
}

/// Changed, created, deleted; a file that becomes a folder, a folder that becomes a link, a file
/// that can be executed; and a persistent folder that nobody may touch.
fn trees() -> Trees {
    // In memory where there is such a place: the sweep syncs hundreds of times.
    let shm = Path::new("/dev/shm");
    let dir = match shm.is_dir() {
        true => tempfile::tempdir_in(shm).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let (root, slot) = (dir.path().join("game"), dir.path().join("r1"));
    let put = |tree: &Path, name: &str, text: &str| {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for tree in [&root, &slot] {
        put(tree, "same.php", "the same");
        put(tree, "lib/kept.php", "kept");
    }
    put(&root, "index.php", "old");
    put(&root, "gone/deep/er.php", "gone");
    put(&root, "was-file", "a file");
    put(&root, "was-folder/x", "x");
    put(&root, "uploads/avatar.png", "a player's");
    put(&slot, "index.php", "new");
    put(&slot, "lib/added.php", "added");
    put(&slot, "was-file/now/folder.php", "below");
    symlink("lib", slot.join("was-folder")).unwrap();
    put(&slot, "bin/tick.sh", "#!/bin/sh\n");
    fs::set_permissions(slot.join("bin/tick.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(slot.join("empty")).unwrap();
    let (old, new) = (scanned(&root), scanned(&slot));
    Trees { _dir: dir, root, slot, old, new }
}

impl Trees {
    fn swap(&self) -> Swap<'_> {
        Swap { root: &self.root, slot: &self.slot, old: &self.old, new: &self.new }
    }

    fn are(&self, root: &Manifest, slot: &Manifest, what: &str) {
        assert_eq!(scanned(&self.root), *root, "{what}: the live tree");
        assert_eq!(scanned(&self.slot), *slot, "{what}: the slot");
        let avatar = self.root.join("uploads/avatar.png");
        assert_eq!(fs::read_to_string(avatar).unwrap(), "a player's");
        assert!(!self.swap().work().exists(), "{what}: something is left");
    }
}

fn go() -> Result<(), PackageError> {
    Ok(())
}

/// Lets `count` effects happen, and no more.
fn after(count: u32) -> impl Fn() -> Result<(), PackageError> {
    let left = Cell::new(count);
    move || match left.get() {
        0 => Err(PackageError::Stopped),
        n => {
            left.set(n - 1);
            Ok(())
        }
    }
}

#[test]
fn there_and_back_and_each_twice() {
    let trees = trees();
    let swap = trees.swap();
    for _ in 0..2 {
        swap.forward(&go).unwrap();
        trees.are(&trees.new, &trees.old, "there");
        assert_eq!(swap.holds().unwrap(), Holds::New);
    }
    for _ in 0..2 {
        swap.back(&go).unwrap();
        trees.are(&trees.old, &trees.new, "back");
        assert_eq!(swap.holds().unwrap(), Holds::Old);
    }
}

#[test]
fn a_switch_that_dies_before_any_effect_goes_on_or_back_to_the_exact_tree() {
    let mut effects = 0;
    loop {
        let trees = trees();
        let swap = trees.swap();
        let whole = swap.forward(&after(effects)).is_ok();
        // The way back dies as well, somewhere, and is taken up.
        for deaths in [0, effects / 2, effects] {
            let _ = swap.back(&after(deaths));
        }
        swap.back(&go).unwrap();
        trees.are(&trees.old, &trees.new, &format!("back after {effects} effects"));
        let _ = swap.forward(&after(effects));
        swap.forward(&go).unwrap();
        trees.are(&trees.new, &trees.old, &format!("on after {effects} effects"));
        if whole {
            assert!(effects > 30, "only {effects} effects were swept");
            return;
        }
        effects += 1;
    }
}

#[test]
fn what_was_changed_by_hand_is_never_overwritten() {
    let trees = trees();
    fs::write(trees.root.join("index.php"), "by hand").unwrap();
    let refused = trees.swap().forward(&go).unwrap_err();
    assert!(matches!(
        refused,
        PackageError::Stage(StageFault::LiveChanged(path)) if path.as_str() == "index.php"
    ));
    assert_eq!(fs::read_to_string(trees.root.join("index.php")).unwrap(), "by hand");
}
