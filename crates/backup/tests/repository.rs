//! The repository itself: passwords, crashes, locks, full disks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, noise, restore_dump, silent, store_dump, store_tree, tags};
use entracte_backup::{BackupError, Repository, Retention};
use entracte_model::UnixMs;
use entracte_testbed::alone::in_own_namespace;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_new_repository_gets_a_private_password_and_an_old_one_needs_its_own() {
    let place = Place::new();
    assert!(matches!(
        Repository::open(&place.repository(), &place.password()),
        Err(BackupError::Missing { .. })
    ));
    place.open();
    let mode = fs::metadata(place.password()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = fs::read_to_string(place.password()).unwrap();
    assert_eq!(password.trim().len(), 64);
    place.open();
    assert_eq!(fs::read_to_string(place.password()).unwrap(), password);

    fs::remove_file(place.password()).unwrap();
    for opened in [
        Repository::open(&place.repository(), &place.password()),
        Repository::open_or_init(&place.repository(), &place.password()),
    ] {
        assert!(matches!(opened, Err(BackupError::PasswordMissing { .. })));
    }
    assert!(!place.password().exists(), "a new password would hide the loss of the old one");

    fs::write(place.password(), "another\n").unwrap();
    fs::set_permissions(place.password(), Permissions::from_mode(0o600)).unwrap();
    let error = Repository::open(&place.repository(), &place.password()).unwrap_err();
    assert!(matches!(error, BackupError::WrongPassword { .. }), "{error}");
    assert!(!error.to_string().contains("another\n"));
}

#[test]
fn a_making_that_died_is_completed() {
    for (gone, keys_stay) in [("trees", true), ("dumps", true), ("dumps", false)] {
        let place = Place::new();
        place.open();
        let part = place.repository().join(gone);
        fs::remove_file(part.join("config")).unwrap();
        if !keys_stay {
            fs::remove_dir_all(part.join("keys")).unwrap();
        }
        let mut repository = place.open();
        store_dump(&mut repository, b"-- a dump").unwrap();
        place.assert_whole();
    }
}

#[test]
fn a_lost_config_beside_data_is_not_papered_over() {
    let place = Place::new();
    store_dump(&mut place.open(), b"-- a dump").unwrap();
    fs::remove_file(place.repository().join("dumps/config")).unwrap();
    let error = Repository::open_or_init(&place.repository(), &place.password()).unwrap_err();
    assert!(matches!(error, BackupError::Faults { .. }), "{error}");
}

#[test]
fn a_folder_of_snapshots_that_cannot_be_listed_never_reads_as_empty() {
    let place = Place::new();
    let mut repository = place.open();
    store_dump(&mut repository, &noise(1, 100_000)).unwrap();
    let snapshots = place.repository().join("dumps/snapshots");
    let aside = place.repository().join("dumps/aside");
    fs::rename(&snapshots, &aside).unwrap();
    assert!(repository.list().is_err());
    let packed = place.packed("dumps");
    let everything = Retention { daily: 0, weekly: 0, monthly: 0 };
    assert!(repository.apply_retention(everything, &[], UnixMs(i64::MAX)).is_err());
    assert_eq!(place.packed("dumps"), packed, "a prune went on without its snapshots");
    fs::rename(&aside, &snapshots).unwrap();
    place.assert_whole();
}

/// Not a test by itself: a backup that never ends, for tests to kill.
#[test]
fn helper_stores_for_ever() {
    let Ok(dir) = std::env::var("STORE_INTO") else { return };
    let dir = Path::new(&dir);
    let mut repository =
        Repository::open_or_init(&dir.join("backups"), &dir.join("password")).unwrap();
    let mut seed = 1;
    let mut write = |out: &mut dyn Write| loop {
        seed += 1;
        // Past the size of a pack (32 MiB), so that something of it is on disk.
        if seed == 600 {
            println!("\nrunning");
        }
        if let Err(error) = out.write_all(&noise(seed, 100_000)) {
            return Err(error.to_string());
        }
    };
    let error = repository.store_stream("taverne.sql", &tags(), &mut write, &mut silent());
    panic!("it should have been killed: {error:?}");
}

#[test]
fn a_backup_that_is_killed_leaves_no_snapshot_and_no_lock() {
    let place = Place::new();
    let mut repository = place.open();
    let kept = store_dump(&mut repository, b"-- yesterday's dump").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_stores_for_ever", "--nocapture"])
        .env("STORE_INTO", place.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "running"));

    // While it runs, nobody else writes or prunes, and everybody can read.
    assert!(matches!(store_dump(&mut repository, b"x"), Err(BackupError::Busy { .. })));
    let retention = Retention::default();
    let pruned = repository.apply_retention(retention, &[], UnixMs(i64::MAX));
    assert!(matches!(pruned, Err(BackupError::Busy { .. })));
    assert_eq!(restore_dump(&repository, &kept.id), b"-- yesterday's dump");

    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    let next = loop {
        match store_dump(&mut repository, &noise(3, 300_000)) {
            Err(BackupError::Busy { .. }) if start.elapsed() < PATIENCE => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(repository.list().unwrap().len(), 2);
    assert_eq!(restore_dump(&repository, &next.id), noise(3, 300_000));
    place.assert_whole();
    // What the killed one left is removed by the next retention.
    let before = place.packed("dumps");
    repository.apply_retention(retention, &[kept.id], UnixMs(i64::MAX)).unwrap();
    assert!(before - place.packed("dumps") > 10_000_000);
    place.assert_whole();
}

#[test]
fn a_full_disk_leaves_no_snapshot_and_a_whole_repository() {
    if !in_own_namespace("a_full_disk_leaves_no_snapshot_and_a_whole_repository") {
        return;
    }
    let place = Place::new();
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
        .arg(place.dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("game");
    fs::create_dir(&root).unwrap();
    for n in 0..40 {
        fs::write(root.join(format!("{n}")), noise(n + 100, 500_000)).unwrap();
    }
    let mut repository = place.open();
    let first = store_dump(&mut repository, &noise(1, 1_000_000)).unwrap();

    let error = store_dump(&mut repository, &noise(2, 40_000_000)).unwrap_err();
    assert!(matches!(error, BackupError::Full { .. }), "{error}");
    let error = store_tree(&mut repository, &root).unwrap_err();
    assert!(matches!(error, BackupError::Full { .. }), "{error}");
    assert_eq!(repository.list().unwrap().len(), 1);
    repository.check(true).unwrap();
    for part in ["dumps", "trees"] {
        place.restic(part, &["check", "--no-lock", "--read-data"]);
    }

    // The next retention makes room again, and the next backup succeeds.
    repository.apply_retention(Retention::default(), &[], UnixMs(i64::MAX)).unwrap();
    let second = store_dump(&mut repository, &noise(3, 2_000_000)).unwrap();
    assert!(restore_dump(&repository, &second.id) == noise(3, 2_000_000));
    assert!(restore_dump(&repository, &first.id) == noise(1, 1_000_000));
    repository.check(true).unwrap();
}
