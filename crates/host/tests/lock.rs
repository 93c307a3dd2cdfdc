//! The lock between real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use entracte_host::{Lock, LockError, Owner};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test by itself: what the other process does, when a test starts this binary again.
#[test]
fn helper_holds_the_lock() {
    let Ok(path) = std::env::var("LOCK_TO_HOLD") else { return };
    let _lock = Lock::try_take(Path::new(&path), &Owner::this("1.1.0")).unwrap();
    if std::env::var("WITH_CHILD").is_ok() {
        // A service that a hook would start: it outlives us, and must not keep the lock.
        let started =
            Command::new("sh").args(["-c", "sleep 60 >/dev/null 2>&1 & echo $!"]).output().unwrap();
        println!("\nsleeper {}", String::from_utf8(started.stdout).unwrap().trim());
    }
    println!("\nheld");
    std::thread::sleep(PATIENCE);
}

/// Starts a process that holds the lock, and returns it with the lines it printed until then.
fn hold(path: &Path, variables: &[(&str, &str)]) -> (Holder, Vec<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_holds_the_lock", "--nocapture"])
        .env("LOCK_TO_HOLD", path)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let holder = Holder(child);
    let mut said = Vec::new();
    for line in output.lines() {
        let line = line.unwrap();
        if line == "held" {
            return (holder, said);
        }
        said.push(line);
    }
    panic!("the holder ended without holding: {said:?}");
}

fn take(path: &Path) -> Lock {
    let start = Instant::now();
    loop {
        match Lock::try_take(path, &Owner::this("2.0.0")) {
            Ok(lock) => return lock,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[test]
fn a_second_process_is_told_who_is_first_and_takes_over_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    let (mut holder, _) = hold(&path, &[]);
    let LockError::Busy { owner, .. } = Lock::try_take(&path, &Owner::this("x")).unwrap_err()
    else {
        panic!("busy is expected")
    };
    let owner = owner.unwrap();
    assert_eq!((owner.pid, owner.release.as_str()), (holder.0.id(), "1.1.0"));
    assert_eq!(Lock::holder(&path), Some(owner));

    let inode = fs::metadata(&path).unwrap().ino();
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    // The record of the dead stays, and locks nobody out.
    assert!(dir.path().join("release.lock.owner").exists());
    assert_eq!(Lock::holder(&path), None);
    let lock = Lock::try_take(&path, &Owner::this("2.0.0")).unwrap();
    assert_eq!(Lock::holder(&path).unwrap().pid, std::process::id());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the file was replaced");
    drop(lock);
    assert_eq!(Lock::holder(&path), None);
}

#[test]
fn what_the_holder_started_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    let (mut holder, said) = hold(&path, &[("WITH_CHILD", "1")]);
    let sleeper: u32 =
        said.iter().find_map(|line| line.strip_prefix("sleeper ")).unwrap().parse().unwrap();
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    assert!(Path::new(&format!("/proc/{sleeper}")).exists(), "it should still be running");
    drop(take(&path));
    let sleeper = rustix::process::Pid::from_raw(i32::try_from(sleeper).unwrap()).unwrap();
    rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn the_same_process_cannot_take_it_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    let _lock = Lock::try_take(&path, &Owner::this("1.1.0")).unwrap();
    let busy = Lock::try_take(&path, &Owner::this("1.2.0")).unwrap_err();
    assert!(busy.to_string().contains("1.1.0"), "{busy}");
}

#[test]
fn exactly_one_of_many_gets_it_while_others_look() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    let taken = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| drop(Lock::holder(&path))));
        }
        let tries: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Lock::try_take(&path, &Owner::this("x")).ok())).collect();
        let locks: Vec<_> = tries.into_iter().filter_map(|t| t.join().unwrap()).collect();
        locks.len()
    });
    assert_eq!(taken, 1);
}

#[test]
fn a_full_disk_does_not_read_as_busy_and_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    {
        let _armed = entracte_host::fault::arm("lock.record=ENOSPC");
        let error = Lock::try_take(&path, &Owner::this("x")).unwrap_err();
        assert!(
            matches!(&error, LockError::Io { source, .. } if source.raw_os_error() == Some(28))
        );
    }
    assert_eq!(Lock::holder(&path), None);
    Lock::try_take(&path, &Owner::this("x")).unwrap();
}

#[test]
fn a_record_of_a_process_that_is_gone_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    let lock = Lock::try_take(&path, &Owner::this("x")).unwrap();
    // A process that ended: its number is free until the kernel has gone once around.
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let stale = Owner { pid: gone.id(), ..Owner::this("0.9") };
    let record = serde_json::to_vec(&stale).unwrap();
    entracte_host::durable::write(&dir.path().join("release.lock.owner"), &record, 0o644).unwrap();
    let LockError::Busy { owner, .. } = Lock::try_take(&path, &Owner::this("y")).unwrap_err()
    else {
        panic!("busy is expected")
    };
    assert_eq!(owner, None);
    assert_eq!(Lock::holder(&path), Some(Owner::unknown()));
    drop(lock);
}

#[test]
fn a_link_in_place_of_the_lock_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.lock");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    let error = Lock::try_take(&path, &Owner::this("x")).unwrap_err();
    assert!(matches!(error, LockError::Io { .. }), "{error}");
}

#[test]
fn a_turn_is_waited_for_and_whoever_has_it_too_long_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let (holder, _) = hold(&path, &[]);
    let short = Duration::from_millis(50);
    let refused = Lock::take_within(&path, &Owner::this("another"), short).unwrap_err();
    let pid = holder.0.id();
    assert!(refused.to_string().contains(&format!("1.1.0 (process {pid}")), "{refused}");
    let waiting = std::thread::spawn(move || {
        Lock::take_within(&path, &Owner::this("another"), PATIENCE).map(drop)
    });
    drop(holder);
    waiting.join().unwrap().unwrap();
}
