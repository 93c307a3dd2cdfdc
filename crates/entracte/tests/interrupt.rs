//! Interruptions of a release: signals at every step, a terminal that closes, a watcher that dies,
//! a second release, a gate that dies. Nothing is torn: the release is taken back from its next safe
//! point, or goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod small;

use std::process::Stdio;

use entracte_testbed::process::wait_until;
use small::{PATIENCE_MS, STEPS, Small, ends, signal, step};

/// The last step at whose beginning a release can still be stopped.
const LAST_CHANCE: &str = "reopen";

/// Sends `name` to the runner at the beginning of the step `at`, and looks how it ends.
fn signalled(name: &str, at: usize) {
    let case = format!("{name} at {}", STEPS[at]);
    let mut site = Small::start("1.1");
    assert!(site.buy(), "{case}");
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", at);
    signal(runner, name);
    signal(runner, "CONT");
    if at > step(LAST_CHANCE) {
        assert_eq!(ends(&mut deploy), Some(0), "{case}\n{}", site.logs());
        site.reference.migrate("1.1");
        site.assert_is("1.1", &["r1"], &case);
    } else {
        assert_eq!(ends(&mut deploy), Some(4), "{case}\n{}", site.logs());
        site.assert_is("1.0", &[], &case);
        assert!(site.ok(&["log"]).contains("asked to stop"), "{case}\n{}", site.logs());
    }
}

#[test]
fn ctrl_c_at_any_step_takes_back_until_the_reopening_and_changes_nothing_after_it() {
    for at in 0..STEPS.len() {
        signalled("INT", at);
    }
}

#[test]
fn a_polite_end_and_a_hang_up_are_as_good_as_ctrl_c() {
    signalled("TERM", step("migrate"));
    signalled("HUP", step("backup"));
    signalled("HUP", step("switch"));
}

#[test]
fn ctrl_c_while_it_is_taken_back_already_changes_nothing() {
    let mut site = Small::start("1.3");
    let (mut deploy, runner) = site.deploy_paused("1.3", "undo-started", step("migrate"));
    signal(runner, "INT");
    signal(runner, "CONT");
    assert_eq!(ends(&mut deploy), Some(4), "{}", site.logs());
    site.assert_is("1.0", &[], "INT on the way back");
}

#[test]
fn abort_stops_a_release_that_runs() {
    let mut site = Small::start("1.1");
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", step("window copy"));
    let mut abort =
        site.command(&["abort"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Its signal waits until the runner goes on.
    let pending = || {
        let status = std::fs::read_to_string(format!("/proc/{runner}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        mask.is_some_and(|mask| {
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 0b10 != 0)
        })
    };
    assert!(wait_until(PATIENCE_MS, pending), "abort sent no SIGINT");
    signal(runner, "CONT");
    assert_eq!(ends(&mut abort), Some(4), "{}", site.logs());
    assert_eq!(ends(&mut deploy), Some(4), "{}", site.logs());
    site.assert_is("1.0", &[], "abort");
}

#[test]
fn a_watcher_that_is_killed_is_not_missed() {
    let mut site = Small::start("1.1");
    assert!(site.buy());
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", step("migrate"));
    deploy.kill().unwrap();
    deploy.wait().unwrap();
    signal(runner, "CONT");
    site.exits(0, &["log", "-f"]);
    site.reference.migrate("1.1");
    site.assert_is("1.1", &["r1"], "the watcher was killed");
}

#[test]
fn a_terminal_that_closes_is_not_missed() {
    let mut site = Small::start("1.1");
    assert!(site.buy());
    // `script` gives the deployment a terminal of its own, which closes when `script` dies.
    let program = env!("CARGO_BIN_EXE_entracte");
    let pause = format!("started:{}", step("close"));
    let mut terminal = std::process::Command::new("script")
        .args(["-qec", &format!("{program} deploy 1.1 --yes"), "/dev/null"])
        .current_dir(&site.dev)
        .env("ENTRACTE_PAUSE", pause)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("script: {error}; run `cargo xtask setup`"));
    let mut runner = 0;
    let paused = wait_until(PATIENCE_MS, || {
        runner = site.runner().unwrap_or(0);
        small::is_stopped(runner)
    });
    assert!(paused, "{}", site.logs());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    signal(runner, "CONT");
    site.exits(0, &["log", "-f"]);
    site.reference.migrate("1.1");
    site.assert_is("1.1", &["r1"], "the terminal closed");
}

#[test]
fn a_second_release_is_refused_and_the_first_one_is_unharmed() {
    let mut site = Small::start("1.1");
    assert!(site.buy());
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", step("switch"));
    let before = site.run(&["log", "--json"]).stdout;
    for second in
        [&["deploy", "1.1", "--yes"][..], &["rollback", "--yes"], &["resume"], &["gate", "open"]]
    {
        site.exits(7, second);
    }
    assert_eq!(site.phase(), "closed");
    assert_eq!(site.run(&["log", "--json"]).stdout, before, "the second left traces");
    assert_eq!(site.json(&["history"]).as_array().map(Vec::len), Some(1));
    signal(runner, "CONT");
    assert_eq!(ends(&mut deploy), Some(0), "{}", site.logs());
    site.reference.migrate("1.1");
    site.assert_is("1.1", &["r1"], "a second release");
}

#[test]
fn a_gate_that_is_killed_in_the_window_comes_back_closed() {
    for at in ["window copy", "migrate", "switch", "smoke", "reopen"] {
        let mut site = Small::start("1.1");
        assert!(site.buy());
        let (mut deploy, runner) = site.deploy_paused("1.1", "started", step(at));
        site.kill_gate();
        assert!(!site.buy(), "{at}: a dead gate let somebody in");
        site.start_gate();
        assert_eq!(site.phase(), "closed", "{at}: the gate forgot that it was closed");
        assert!(!site.buy(), "{at}: a closed gate let somebody in");
        signal(runner, "CONT");
        assert_eq!(ends(&mut deploy), Some(0), "{at}\n{}", site.logs());
        site.reference.migrate("1.1");
        site.assert_is("1.1", &["r1"], &format!("the gate died at {at}"));
    }
}

#[test]
fn a_gate_that_stays_dead_leaves_a_question_and_its_answer_takes_back() {
    let mut site = Small::start("1.1");
    assert!(site.buy());
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", step("smoke"));
    site.kill_gate();
    signal(runner, "CONT");
    // Nobody can be let in again, so that a person has to look; nothing is open by accident.
    assert_eq!(ends(&mut deploy), Some(5), "{}", site.logs());
    site.start_gate();
    assert_eq!(site.phase(), "closed", "{}", site.logs());
    site.exits(4, &["resume"]);
    site.assert_is("1.0", &[], "the gate stayed dead");
    site.ok(&["deploy", "1.1", "--yes"]);
    site.reference.migrate("1.1");
    site.assert_is("1.1", &["r2"], "the same once more");
}
