//! Hooks as real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use entracte_host::hook::{Ending, HookDone, OUTPUT_BYTES_MAX};
use entracte_host::{Host, HostError, Local, Op, Reply};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);
/// A limit that no hook here reaches unless it is meant to.
const AMPLE_MS: u64 = 30_000;

fn hook_in(dir: &Path, command: &str, timeout_ms: u64) -> Op {
    Op::Hook {
        name: "reload".into(),
        command: command.into(),
        dir: dir.into(),
        timeout_ms,
        env: BTreeMap::from([("ENTRACTE_VERSION".to_owned(), "1.1.0".to_owned())]),
    }
}

fn run_in(dir: &Path, command: &str, timeout_ms: u64) -> (Result<Reply, HostError>, Vec<String>) {
    let mut said = Vec::new();
    let op = hook_in(dir, command, timeout_ms);
    let result = Local.call(&op, &mut |progress| said.push(progress.note));
    (result, said)
}

fn done(result: Result<Reply, HostError>) -> HookDone {
    match result.unwrap() {
        Reply::Hook { done } => done,
        other => panic!("a hook's reply is expected, found {other:?}"),
    }
}

fn failed(result: Result<Reply, HostError>) -> (String, HookDone) {
    match result.unwrap_err() {
        HostError::Hook(failure) => (failure.to_string(), failure.done),
        other => panic!("a hook's failure is expected, found {other}"),
    }
}

fn pid_in(file: &Path) -> Pid {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|text| text.parse().ok()) {
            return Pid::from_raw(pid).unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "no process number came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process runs (a zombie that nobody has reaped does not).
fn runs(pid: Pid) -> bool {
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn assert_ends(pid: Pid) {
    let start = Instant::now();
    while runs(pid) {
        assert!(start.elapsed() < PATIENCE, "{pid:?} is still running");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn output_of_both_streams_arrives_in_order_with_folder_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let command = "echo one; echo two >&2; pwd; echo $ENTRACTE_VERSION; printf last";
    let (result, said) = run_in(dir.path(), command, AMPLE_MS);
    let done = done(result);
    let real = dir.path().canonicalize().unwrap();
    let expected = format!("one\ntwo\n{}\n1.1.0\nlast", real.display());
    assert_eq!(done.output, expected);
    assert_eq!(said, expected.lines().collect::<Vec<_>>());
    assert_eq!(done.output_bytes, expected.len() as u64);
    assert!(!done.left_running);
}

#[test]
fn a_failing_hook_names_its_code_and_shows_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let (said, done) = failed(run_in(dir.path(), "echo 'no such pool' >&2; exit 3", AMPLE_MS).0);
    assert_eq!(done.ending, Ending::Exit { code: 3 });
    assert!(said.contains("exit code 3") && said.contains("no such pool"), "{said}");
    let (said, _) = failed(run_in(dir.path(), "no-such-command-here", AMPLE_MS).0);
    assert!(said.contains("was not found"), "{said}");
}

#[test]
fn a_hook_that_a_signal_ended_names_the_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (said, done) = failed(run_in(dir.path(), "kill -SEGV $$", AMPLE_MS).0);
    assert_eq!(done.ending, Ending::Signal { number: 11, name: "SIGSEGV".into() });
    assert!(said.contains("SIGSEGV"), "{said}");
}

#[test]
fn at_its_limit_the_whole_group_ends_even_what_ignores_the_polite_signal() {
    let dir = tempfile::tempdir().unwrap();
    let command = "(trap '' TERM; echo $$ >/dev/null; sh -c 'echo $PPID' > stubborn; \
                   while :; do sleep 60; done) & echo waiting; wait";
    let (said, done) = failed(run_in(dir.path(), command, 500).0);
    assert_eq!(done.ending, Ending::TimedOut { limit_ms: 500 });
    assert!(said.contains("500 ms") && said.contains("waiting"), "{said}");
    assert!(!done.left_running);
    assert_ends(pid_in(&dir.path().join("stubborn")));
}

#[test]
fn a_service_that_a_hook_starts_is_left_alone_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let command = "(while :; do echo tick; sleep 0.01; done) & echo $! > service; echo started";
    let done = done(run_in(dir.path(), command, AMPLE_MS).0);
    assert!(done.left_running);
    assert!(done.output.contains("started"));
    let service = pid_in(&dir.path().join("service"));
    // It goes on printing into a pipe that nobody keeps: that must not end it.
    let count = "ls /proc/$(cat service)/stat && sleep 0.2 && kill -0 $(cat service)";
    run_in(dir.path(), count, AMPLE_MS).0.unwrap();
    assert!(runs(service));
    kill_process(service, Signal::KILL).unwrap();
}

#[test]
fn a_service_with_its_own_output_costs_no_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let command = "sleep 60 >/dev/null 2>&1 & echo $! > service";
    let done = done(run_in(dir.path(), command, AMPLE_MS).0);
    assert!(!done.left_running);
    kill_process(pid_in(&dir.path().join("service")), Signal::KILL).unwrap();
}

#[test]
fn of_a_flood_the_end_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let command =
        "i=0; while [ $i -lt 400 ]; do printf '%01000d\\n' 0; i=$((i+1)); done; echo é end";
    let done = done(run_in(dir.path(), command, AMPLE_MS).0);
    assert_eq!(done.output_bytes, 400 * 1001 + 7);
    assert!(done.output.len() <= OUTPUT_BYTES_MAX);
    assert!(done.output.len() > OUTPUT_BYTES_MAX - 8);
    assert!(done.output.ends_with("é end\n"));
}

#[test]
fn a_hook_that_never_stops_printing_still_meets_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (_, done) = failed(run_in(dir.path(), "yes", 300).0);
    assert_eq!(done.ending, Ending::TimedOut { limit_ms: 300 });
    assert!(done.output.len() <= OUTPUT_BYTES_MAX);
}

#[test]
fn a_missing_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("gone");
    let said = run_in(&missing, "true", AMPLE_MS).0.unwrap_err().to_string();
    assert!(said.contains("gone"), "{said}");
}
