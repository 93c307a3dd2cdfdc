//! Source trees: stored, compared, restored by us and by the real restic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use common::{Place, noise, silent, store_tree, tags};
use entracte_backup::{BackupError, Kind};
use entracte_model::UnixMs;
use entracte_testbed::alone::as_nobody;

/// A tree as games have them.
fn game(root: &Path) {
    for folder in ["inc", "assets/old [1]", "empty", "uploads"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("index.php"), "<?php echo 'Taverne';\n").unwrap();
    fs::write(root.join("inc/crlf.php"), "\u{feff}<?php\r\n// old\r\n").unwrap();
    fs::write(root.join("assets/old [1]/a name.png"), noise(1, 3_000_000)).unwrap();
    fs::write(root.join("assets/nothing"), "").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9.txt")), "latin-1 name").unwrap();
    fs::write(root.join("cron.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("cron.sh"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(root.join("inc"), Permissions::from_mode(0o2755)).unwrap();
    symlink("../index.php", root.join("inc/link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
}

/// What a tree holds, for comparing: kind, mode, time and content by path.
fn describe(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                folders.push(path.clone());
                format!("folder {}.{}", meta.mtime(), meta.mtime_nsec())
            } else if meta.is_symlink() {
                format!("link to {:?}", fs::read_link(&path).unwrap())
            } else {
                let hash = entracte_model::Hash::of(&fs::read(&path).unwrap());
                format!("file {hash} {}.{}", meta.mtime(), meta.mtime_nsec())
            };
            let mode = if meta.is_symlink() { 0 } else { meta.mode() };
            all.push(format!("{:?} {mode:o} {content}", path.strip_prefix(root).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_tree_comes_back_exactly_from_us_and_from_restic() {
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    let mut repository = place.open();
    let snapshot = store_tree(&mut repository, &root).unwrap();
    assert_eq!(snapshot.kind, Kind::Source);
    assert_eq!(snapshot.name, root.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(snapshot.bytes, 3_000_062);
    assert_eq!(snapshot.tags["project"], "taverne");
    assert_eq!(snapshot.tags["reason"], "daily");
    assert_eq!(repository.list().unwrap(), std::slice::from_ref(&snapshot));

    let ours = place.path("ours");
    repository.restore_tree(&snapshot.short, &ours, &mut silent()).unwrap();
    assert_eq!(describe(&ours), describe(&root));

    let theirs = place.path("theirs");
    place.restic("trees", &["restore", &snapshot.id, "--target", theirs.to_str().unwrap()]);
    assert_eq!(describe(&theirs), describe(&root));
    place.assert_whole();

    let listed = place.restic("trees", &["snapshots", "--json"]);
    assert!(listed.contains(&snapshot.id) && listed.contains("project=taverne"), "{listed}");
}

#[test]
fn a_second_day_stores_only_what_changed_even_with_its_old_time_and_size() {
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    let mut repository = place.open();
    store_tree(&mut repository, &root).unwrap();
    let first = place.packed("trees");

    // The trap: the same size and the same time, and another content.
    let changed = root.join("index.php");
    let before = fs::metadata(&changed).unwrap().modified().unwrap();
    fs::write(&changed, "<?php echo 'Tavernz';\n").unwrap();
    File::options().write(true).open(&changed).unwrap().set_modified(before).unwrap();
    let second = store_tree(&mut repository, &root).unwrap();
    assert!(place.packed("trees") - first < 50_000, "the unchanged picture was stored again");

    let back = place.path("back");
    repository.restore_tree(&second.id, &back, &mut silent()).unwrap();
    assert_eq!(describe(&back), describe(&root));
}

#[test]
fn what_is_skipped_is_left_out_and_nothing_else() {
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    // Ignore files are for development; a backup does not follow them.
    fs::write(root.join(".gitignore"), "*\n").unwrap();
    fs::write(root.join(".ignore"), "*\n").unwrap();
    fs::create_dir(root.join(".git")).unwrap();
    let mut repository = place.open();
    let skip = ["uploads".parse().unwrap(), "assets/old [1]".parse().unwrap()];
    let snapshot = repository
        .store_tree(&root, &skip, &tags(), &mut silent(), &AtomicBool::new(false))
        .unwrap();
    let back = place.path("back");
    repository.restore_tree(&snapshot.id, &back, &mut silent()).unwrap();
    assert!(!back.join("uploads").exists() && !back.join("assets/old [1]").exists());
    assert!(back.join("assets/nothing").exists() && back.join("index.php").exists());
    assert!(back.join(".gitignore").exists() && back.join(".git").is_dir());
}

#[test]
fn files_that_cannot_be_read_are_all_named_and_leave_no_snapshot() {
    if !as_nobody("files_that_cannot_be_read_are_all_named_and_leave_no_snapshot") {
        return;
    }
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    fs::set_permissions(root.join("index.php"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.join("uploads"), Permissions::from_mode(0o000)).unwrap();
    let mut repository = place.open();
    let error = store_tree(&mut repository, &root).unwrap_err();
    let BackupError::Unreadable(unreadable) = &error else { panic!("{error}") };
    assert_eq!(unreadable.total, 2);
    let said = error.to_string();
    assert!(said.contains("index.php") && said.contains("uploads"), "{said}");
    assert!(repository.list().unwrap().is_empty());
    fs::set_permissions(root.join("uploads"), Permissions::from_mode(0o755)).unwrap();
    repository.check(true).unwrap();
}

#[test]
fn a_file_that_ends_before_its_size_is_named_and_leaves_no_snapshot() {
    // The kernel says 4,096 bytes of these, and gives a few: like a file cut while it is read.
    let root = Path::new("/sys/module/kernel/parameters");
    let place = Place::new();
    let mut repository = place.open();
    let error = store_tree(&mut repository, root).unwrap_err();
    assert!(matches!(error, BackupError::Unreadable(_)), "{error}");
    assert!(error.to_string().contains("shorter"), "{error}");
    assert!(repository.list().unwrap().is_empty());
    place.assert_whole();
}

#[test]
fn a_missing_tree_and_a_stop_leave_no_snapshot() {
    let place = Place::new();
    let mut repository = place.open();
    assert!(store_tree(&mut repository, &place.path("gone")).is_err());
    let root = place.path("game");
    game(&root);
    let stop = AtomicBool::new(true);
    let error = repository.store_tree(&root, &[], &tags(), &mut silent(), &stop).unwrap_err();
    assert!(matches!(error, BackupError::Stopped), "{error}");
    assert!(repository.list().unwrap().is_empty());
}

#[test]
fn a_file_that_grows_meanwhile_is_stored_whole_as_it_was() {
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    let log = root.join("game.log");
    fs::write(&log, noise(7, 100_000)).unwrap();
    let mut repository = place.open();
    let writing = AtomicBool::new(true);
    let snapshot = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&log).unwrap();
            while writing.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"one more line\n").unwrap();
            }
        });
        let snapshot = store_tree(&mut repository, &root);
        writing.store(false, std::sync::atomic::Ordering::Relaxed);
        snapshot.unwrap()
    });
    let back = place.path("back");
    repository.restore_tree(&snapshot.id, &back, &mut silent()).unwrap();
    let stored = fs::read(back.join("game.log")).unwrap();
    assert!(stored.len() >= 100_000);
    assert!(fs::read(&log).unwrap().starts_with(&stored));
    place.assert_whole();
}

#[test]
fn a_restore_never_writes_into_what_is_there() {
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    let mut repository = place.open();
    let snapshot = store_tree(&mut repository, &root).unwrap();
    let target = place.path("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "x").unwrap();
    let error = repository.restore_tree(&snapshot.id, &target, &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    let error = repository.restore_tree("ffffffff", &place.path("x"), &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::NoSuchSnapshot { found: 0, .. }), "{error}");
}

#[test]
fn nothing_is_written_through_a_link() {
    let place = Place::new();
    let (root, outside) = (place.path("game"), place.path("outside"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, root.join("a")).unwrap();
    let mut repository = place.open();
    let first = store_tree(&mut repository, &root).unwrap();
    fs::remove_file(root.join("a")).unwrap();
    fs::create_dir(root.join("a")).unwrap();
    fs::write(root.join("a/file"), "inside").unwrap();
    let second = store_tree(&mut repository, &root).unwrap();
    let back = place.path("back");
    repository.restore_tree(&first.id, &back, &mut silent()).unwrap();
    assert!(repository.restore_tree(&second.id, &back, &mut silent()).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn retention_removes_what_it_does_not_keep_and_the_rest_stays_whole() {
    let place = Place::new();
    let root = place.path("game");
    game(&root);
    let mut repository = place.open();
    let mut ids = Vec::new();
    for n in 0..4 {
        fs::write(root.join("assets/big"), noise(n + 10, 400_000)).unwrap();
        ids.push(store_tree(&mut repository, &root).unwrap().id);
    }
    repository.mark_restored(&ids[3], UnixMs(5), 7).unwrap();
    let now = SystemTime::now() + Duration::from_secs(60);
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let now = UnixMs(i64::try_from(now).unwrap());
    let before = place.packed("trees");
    let one = entracte_backup::Retention { daily: 1, weekly: 1, monthly: 1 };
    let gone = repository.apply_retention(one, &[ids[0].clone()], now).unwrap();
    assert_eq!(gone, ids[1..3]);
    let left = repository.list().unwrap();
    assert_eq!(left.len(), 2);
    assert_eq!((left[1].restored, left[1].restore_ms), (Some(UnixMs(5)), Some(7)));
    assert!(before - place.packed("trees") > 700_000, "the room was not given back");
    place.assert_whole();
    let back = place.path("back");
    repository.restore_tree(&ids[3], &back, &mut silent()).unwrap();
    assert_eq!(describe(&back), describe(&root));
}
