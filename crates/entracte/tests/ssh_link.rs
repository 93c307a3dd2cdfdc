//! Production behind a line of 20 Mbit/s with 20 ms each way that loses packets, and goes down: the
//! development machine and the machine of the game are hosts in network namespaces of their own.
//! Needs root, openssh-server and openssh-client.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};

use entracte_testbed::link::{Ends, Link, Shape};
use entracte_testbed::process::{runs, wait_until};
use small::{PATIENCE_MS, Small, ends, is_stopped, signal, step};

/// The share of packets that is lost.
const LOSS: f64 = 0.01;
/// The new file, which no method makes smaller.
const PICTURE_BYTES: u64 = 4_000_000;

/// Version 1.1 gets a large new picture.
fn paint(small: &Small) {
    // The same in every run (xorshift).
    let mut state = 0xc0_ffee_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let count = usize::try_from(PICTURE_BYTES / 8).unwrap();
    let picture: Vec<u8> = (0..count).flat_map(|_| next()).collect();
    fs::write(small.dev.join("source/picture.bin"), picture).unwrap();
    let expected = small.dev.parent().unwrap().join("expected-1.1");
    let copied =
        Command::new("cp").arg("-a").arg(small.dev.join("source")).arg(expected).status().unwrap();
    assert!(copied.success());
    small.ok(&["pack", "1.1"]);
}

/// ssh asks every second, so that a dead connection is noticed soon.
fn impatient(small: &Small) {
    small.reconfigure(
        "ssh_options = [",
        "ssh_options = [\"ServerAliveInterval=1\", \"ServerAliveCountMax=3\", ",
    );
}

/// A deployment in the background; what it prints goes to `deploy.log`.
fn deploy(small: &Small) -> Child {
    let log = fs::File::create(small.dev.join("../deploy.log")).unwrap();
    let mut command = small.command(&["deploy", "1.1", "--yes"]);
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// Takes the line down, and waits until the development machine has noticed by itself and tries again.
fn pull(link: &Ends, small: &Small, deploy: &Child) {
    let before = children(deploy.id());
    assert_eq!(before.len(), 1, "one ssh: {}", small.logs());
    link.down();
    let noticed = wait_until(PATIENCE_MS, || {
        let now = children(deploy.id());
        !runs(before[0]) && now.iter().any(|pid| !before.contains(pid))
    });
    assert!(noticed, "a dead connection is not noticed");
}

/// Takes the line down in the middle of the transfer of 1.1, until that is noticed; gives what had
/// been sent before it, and the deployment.
fn cut_half_way(link: &Ends, small: &mut Small) -> (u64, Child) {
    impatient(small);
    paint(small);
    small.reference.migrate("1.1");
    let before = link.counts().there.bytes;
    let deploy = deploy(small);
    let half = wait_until(PATIENCE_MS, || link.counts().there.bytes - before > PICTURE_BYTES / 2);
    assert!(half, "{}", small.logs());
    pull(link, small, &deploy);
    (before, deploy)
}

/// Sends no more than a small program would have, which starts the real one.
fn bootstrap(small: &Small) {
    let real = env!("CARGO_BIN_EXE_entracte");
    let program = small.dev.join("../program");
    let script = format!("#!/bin/sh\nexec {real} \"$@\"\n{}", "# filled up\n".repeat(40_000));
    fs::write(&program, &script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let there = small.dev.join("../far/entracte");
    small.reconfigure(&format!("remote_binary = {real:?}"), &format!("remote_binary = {there:?}"));
    let brought = small.json(&["bootstrap", "--with", &program.to_string_lossy()]);
    assert_eq!(brought["program_sent"], true, "{brought}");
    assert_eq!(fs::read_to_string(there).unwrap(), script);
}

fn once(small: &Small) {
    let releases = small.json(&["history"]);
    assert_eq!(releases.as_array().map(Vec::len), Some(1), "begun once: {releases}");
}

#[test]
fn a_line_that_loses_packets_brings_a_whole_release() {
    const NAME: &str = "a_line_that_loses_packets_brings_a_whole_release";
    let Some(link) = Link::test_at_b(NAME, &Shape::HOME) else { return };
    let mut small = Small::start_beyond(&link, "1.1", &[]);
    paint(&small);
    small.reference.migrate("1.1");
    let before = link.lose(LOSS);
    bootstrap(&small);
    small.ok(&["deploy", "1.1", "--yes"]);
    let after = link.lose(0.0);
    assert!(after.there.lost > before.there.lost + 10, "{after:?}");
    assert!(after.there.bytes - before.there.bytes > PICTURE_BYTES, "{after:?}");
    small.assert_is("1.1", &["r1"], "over a line that loses packets");
    once(&small);
}

#[test]
fn a_transfer_goes_on_where_the_line_went_down() {
    const NAME: &str = "a_transfer_goes_on_where_the_line_went_down";
    let Some(link) = Link::test_at_b(NAME, &Shape::HOME) else { return };
    let mut small = Small::start_beyond(&link, "1.1", &[]);
    let (before, mut deploy) = cut_half_way(&link, &mut small);
    let arrived = link.up().there.bytes - before;
    assert!(arrived < PICTURE_BYTES, "it went down too late to show anything: {arrived}");
    assert_eq!(ends(&mut deploy), Some(0), "{}", small.logs());
    let sent = link.counts().there.bytes - before;
    assert!(sent < PICTURE_BYTES + PICTURE_BYTES / 4, "{arrived} before, {sent} in all");
    small.assert_is("1.1", &["r1"], "after the line went down");
    once(&small);
}

#[test]
fn a_transfer_goes_on_from_another_network() {
    const NAME: &str = "a_transfer_goes_on_from_another_network";
    let Some(link) = Link::test_at_b(NAME, &Shape::HOME) else { return };
    let mut small = Small::start_beyond(&link, "1.1", &[]);
    let (before, mut deploy) = cut_half_way(&link, &mut small);
    // The far end of the old connection will never hear that it is gone.
    link.move_a();
    link.up();
    assert_eq!(ends(&mut deploy), Some(0), "{}", small.logs());
    let sent = link.counts().there.bytes - before;
    assert!(sent < PICTURE_BYTES + PICTURE_BYTES / 4, "{sent} in all");
    small.assert_is("1.1", &["r1"], "from another network");
    once(&small);
}

#[test]
fn a_release_ends_while_the_line_is_down_and_its_end_is_told_afterwards() {
    const NAME: &str = "a_release_ends_while_the_line_is_down_and_its_end_is_told_afterwards";
    let Some(link) = Link::test_at_b(NAME, &Shape::HOME) else { return };
    let pause = format!("started:{}", step("window copy"));
    let mut small = Small::start_beyond(&link, "1.1", &[("ENTRACTE_PAUSE", &pause)]);
    impatient(&small);
    small.reference.migrate("1.1");
    let mut deploy = deploy(&small);
    let mut runner = 0;
    let paused = wait_until(PATIENCE_MS, || {
        runner = small.runner().unwrap_or(0);
        is_stopped(runner)
    });
    assert!(paused, "{}", small.logs());
    pull(&link, &small, &deploy);
    signal(runner, "CONT");
    assert!(wait_until(PATIENCE_MS, || !runs(runner)), "the release waits for somebody");
    let page = fs::read_to_string(small.root.join("version.txt")).unwrap();
    assert_eq!(page, "version 1.1.0\n", "it is done before the line is back");
    assert!(deploy.try_wait().unwrap().is_none(), "whoever watches does not give up at once");
    let log = small.dev.join("../deploy.log");
    assert!(!said(&log).contains("is live"), "nobody could tell yet");
    link.up();
    assert_eq!(ends(&mut deploy), Some(0), "{}", small.logs());
    assert!(said(&log).contains("1.1.0 is live"), "{}", said(&log));
    small.assert_is("1.1", &["r1"], "after the line went down");
    once(&small);
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap()
}
