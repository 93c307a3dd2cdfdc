//! We and the real restic in one repository at one time: neither destroys what the other does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, noise, restore_dump, silent, store_dump, tags};
use entracte_backup::{BackupError, Retention};
use entracte_model::UnixMs;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn locks(place: &Place) -> usize {
    fs::read_dir(place.repository().join("dumps/locks")).unwrap().count()
}

/// A backup by restic that goes on until its input ends.
fn restic_at_work(place: &Place) -> Child {
    let mut child = Command::new("restic")
        .arg("--repo")
        .arg(place.repository().join("dumps"))
        .arg("--password-file")
        .arg(place.password())
        .args(["--no-cache", "--quiet", "backup", "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("restic is needed: run cargo xtask setup");
    let start = Instant::now();
    while locks(place) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "restic ended by itself");
        assert!(start.elapsed() < PATIENCE, "restic takes no lock");
        std::thread::yield_now();
    }
    child
}

#[test]
fn restic_does_not_prune_while_we_write_and_may_look() {
    let place = Place::new();
    let mut repository = place.open();
    store_dump(&mut repository, b"-- yesterday's dump").unwrap();
    let dump = noise(7, 200_000);
    let mut write = |out: &mut dyn Write| {
        out.write_all(&dump).map_err(|error| error.to_string())?;
        let refused = place.try_restic("dumps", &["prune"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("already locked"), "{said}");
        place.restic("dumps", &["snapshots"]);
        Ok(dump.len() as u64)
    };
    let stored =
        repository.store_stream("taverne.sql", &tags(), &mut write, &mut silent()).unwrap();
    assert_eq!(locks(&place), 0, "a lock was left");
    place.restic("dumps", &["prune"]);
    assert!(restore_dump(&repository, &stored.id) == dump);
}

#[test]
fn restic_does_not_prune_while_we_read() {
    struct Asking<'a>(&'a Place, bool);
    impl Write for Asking<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if !std::mem::replace(&mut self.1, true) {
                assert!(!self.0.try_restic("dumps", &["prune"]).status.success());
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let mut repository = place.open();
    let stored = store_dump(&mut repository, &noise(9, 100_000)).unwrap();
    let mut out = Asking(&place, false);
    repository.restore_stream(&stored.id, &mut out, &mut silent()).unwrap();
    assert!(out.1);
}

#[test]
fn we_do_not_prune_while_restic_writes_and_may_write_too() {
    let place = Place::new();
    let mut repository = place.open();
    let mut restic = restic_at_work(&place);
    let retention = Retention::default();
    let refused = repository.apply_retention(retention, &[], UnixMs(i64::MAX)).unwrap_err();
    assert!(matches!(refused, BackupError::Busy { .. }), "{refused}");
    assert!(refused.to_string().contains(&restic.id().to_string()), "who? {refused}");
    let ours = store_dump(&mut repository, b"-- a dump").unwrap();

    restic.stdin.take().unwrap().write_all(b"their file").unwrap();
    assert!(restic.wait().unwrap().success());
    repository.apply_retention(retention, &[], UnixMs(i64::MAX)).unwrap();
    assert_eq!(restore_dump(&repository, &ours.id), b"-- a dump");
    assert_eq!(repository.list().unwrap().len(), 2, "theirs stays as well");
    place.assert_whole();
}

#[test]
fn a_restic_that_was_killed_holds_nobody_up() {
    let place = Place::new();
    let mut repository = place.open();
    let mut restic = restic_at_work(&place);
    restic.kill().unwrap();
    restic.wait().unwrap();
    assert_eq!(locks(&place), 1, "it left its lock");
    store_dump(&mut repository, b"-- a dump").unwrap();
    repository.apply_retention(Retention::default(), &[], UnixMs(i64::MAX)).unwrap();
}
