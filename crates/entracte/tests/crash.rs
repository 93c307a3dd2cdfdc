//! The crash sweep with real processes: the runner of a release dies by SIGKILL at every moment of
//! every step. Whoever takes the release up afterwards, production is exactly the old version or
//! exactly the new one, and every purchase that was answered "ok" is there.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::sync::Mutex;

use small::{STEPS, Small, step};

/// How many sites are at work at a time.
const SITES: usize = 3;

/// Who takes up what a dead runner left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rescue {
    Resume,
    Abort,
    Duties,
}

/// One death, and what becomes of the release.
#[derive(Debug, Clone)]
struct Case {
    version: &'static str,
    moment: &'static str,
    step: usize,
    rescue: Rescue,
    /// A second death, of the rescuer.
    again: Option<(&'static str, usize)>,
}

impl Case {
    fn name(&self) -> String {
        let again = self.again.map(|(moment, step)| format!(", then {moment}:{}", STEPS[step]));
        format!(
            "{} dies at {}:{}{}, {:?}",
            self.version,
            self.moment,
            STEPS[self.step],
            again.unwrap_or_default(),
            self.rescue
        )
    }

    /// Whether production must be the new version in the end.
    fn released(&self) -> bool {
        let (reopen, migrate) = (step("reopen"), step("migrate"));
        let opened = self.step > reopen || (self.step == reopen && self.moment != "started");
        // Scripts whose end nobody wrote down are never gone on from.
        let in_the_scripts = self.step == migrate && self.moment == "effect";
        match self.version {
            "1.1" => {
                opened || (self.rescue != Rescue::Abort && !in_the_scripts && self.again.is_none())
            }
            _ => false,
        }
    }
}

/// Runs all cases, a few at a time, each on a site of its own; all of them, whatever one shows.
fn sweep(cases: Vec<Case>) {
    let left = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SITES {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(case) = next else { return };
                    if std::panic::catch_unwind(|| dies_and_is_rescued(&case)).is_err() {
                        failed.lock().unwrap().push(case.name());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} deaths left something else: {failed:#?}", failed.len());
}

fn dies_and_is_rescued(case: &Case) {
    let name = case.name();
    let mut site = Small::start(case.version);
    assert!(site.buy(), "{name}");
    let mut deploy = site.command(&["deploy", case.version, "--yes"]);
    deploy.env("ENTRACTE_CRASH", format!("{}:{}", case.moment, case.step));
    let output = deploy.output().unwrap();
    let said = small::said(&output);
    assert_eq!(output.status.code(), Some(1), "{name}: it was to die:\n{said}\n{}", site.logs());

    // Where the gate is open again on the new version, the scripts came before this purchase.
    let gate = site.json(&["gate", "status"]);
    let migrated = gate["phase"] == "open" && gate["goal"]["version"] == "1.1.0";
    if migrated {
        site.reference.migrate(case.version);
        assert!(site.buy(), "{name}: the gate says that it is open");
    } else {
        site.buy();
    }
    if let Some((moment, step)) = case.again {
        let mut again =
            site.command(&[if case.rescue == Rescue::Abort { "abort" } else { "resume" }]);
        again.env("ENTRACTE_CRASH", format!("{moment}:{step}"));
        let output = again.output().unwrap();
        let said = small::said(&output);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{name}: it was to die again:\n{said}\n{}",
            site.logs()
        );
    }
    let expected = if case.released() { 0 } else { 4 };
    rescue(&mut site, case, expected);
    if case.released() {
        if !migrated {
            site.reference.migrate(case.version);
        }
        site.assert_is(case.version, &["r1"], &name);
        return;
    }
    site.assert_is("1.0", &[], &name);
    if case.version == "1.1" {
        // Nothing of the first attempt stands in the way of the second.
        site.ok(&["deploy", "1.1", "--yes"]);
        site.reference.migrate("1.1");
        site.assert_is("1.1", &["r2"], &name);
    }
}

fn rescue(site: &mut Small, case: &Case, expected: i32) {
    match case.rescue {
        Rescue::Resume => drop(site.exits(expected, &["resume"])),
        Rescue::Abort => drop(site.exits(expected, &["abort"])),
        Rescue::Duties => {
            site.start_duties();
            let outcome = || site.json(&["history"])[0]["outcome"].clone();
            let ended =
                entracte_testbed::process::wait_until(small::PATIENCE_MS, || !outcome().is_null());
            assert!(ended, "{}: the duties did not take it up\n{}", case.name(), site.logs());
            let word = if expected == 0 { "released" } else { "taken_back" };
            assert_eq!(outcome()["outcome"], word, "{}\n{}", case.name(), site.logs());
        }
    }
}

/// Every moment on the way forward, resumed by turns by a person, by the duties, or aborted.
#[test]
fn a_runner_that_dies_at_any_moment_leaves_the_old_version_or_the_new_one() {
    let rescues = [Rescue::Resume, Rescue::Abort, Rescue::Duties];
    let mut cases = Vec::new();
    for step in 0..STEPS.len() {
        for (place, moment) in ["started", "effect", "done"].into_iter().enumerate() {
            // Inside the window two of them each time: that is where most can go wrong.
            let in_the_window = (small::step("close")..=small::step("reopen")).contains(&step);
            for turn in 0..=usize::from(in_the_window) {
                let rescue = rescues[(step + place + turn) % 3];
                cases.push(Case { version: "1.1", moment, step, rescue, again: None });
            }
        }
    }
    sweep(cases);
}

/// Every moment on the way back, of a script that fails and of a smoke test that fails; and the
/// way back that a person asked for after a first death.
#[test]
fn a_runner_that_dies_while_it_takes_back_is_followed_by_one_that_ends_it() {
    let undone =
        ["stage", "announce", "drain", "close", "window copy", "migrate", "switch"].map(step);
    let mut cases = Vec::new();
    for moment in ["undo-started", "undo-effect"] {
        for at in undone {
            let rescue = if at % 2 == 0 { Rescue::Resume } else { Rescue::Abort };
            if STEPS[at] != "switch" {
                cases.push(Case { version: "1.2", moment, step: at, rescue, again: None });
            }
            cases.push(Case { version: "1.3", moment, step: at, rescue, again: None });
            let (rescue, again) = (Rescue::Abort, Some((moment, at)));
            let smoke = step("smoke");
            cases.push(Case { version: "1.1", moment: "done", step: smoke, rescue, again });
        }
    }
    sweep(cases);
}

/// A machine that starts anew starts the game's workers, too. They are stopped again before anything
/// goes on.
#[test]
fn workers_that_came_back_meanwhile_are_stopped_again() {
    for at in ["close", "window copy", "migrate", "switch"] {
        let mut site = Small::start("1.1");
        assert!(site.buy());
        let mut deploy = site.command(&["deploy", "1.1", "--yes"]);
        let deploy = deploy.env("ENTRACTE_CRASH", format!("done:{}", step(at)));
        assert_eq!(deploy.output().unwrap().status.code(), Some(1));
        assert_eq!(site.workers(), ["stopped"], "{at}");
        site.start_workers();
        site.exits(0, &["resume"]);
        assert_eq!(
            site.workers(),
            ["stopped", "started", "stopped", "started"],
            "{at}\n{}",
            site.logs()
        );
        site.reference.migrate("1.1");
        site.assert_is("1.1", &["r1"], at);
    }
}

/// The same on the way back that a person asked for after the reopening, data and all.
#[test]
fn a_rollback_that_dies_inside_the_window_ends_as_one_version_too() {
    let window = step("close")..=step("reopen");
    let moments = |at| ["started", "effect"].map(|moment| (moment, at));
    let deaths: Vec<(&str, usize)> = window.flat_map(moments).collect();
    let left = Mutex::new(deaths.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..SITES {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some((moment, at)) = next else { return };
                    rollback_dies(moment, at);
                }
            });
        }
    });
}

fn rollback_dies(moment: &str, at: usize) {
    // The rollback has its restore where a release has its scripts.
    let name = format!("rollback dies at {moment}:{}", STEPS[at]);
    let mut site = Small::start("1.1");
    assert!(site.buy(), "{name}");
    site.ok(&["deploy", "1.1", "--yes"]);
    site.reference.migrate("1.1");
    assert!(site.buy(), "{name}");
    let mut rollback = site.command(&["rollback", "--with-data", "--yes"]);
    let output = rollback.env("ENTRACTE_CRASH", format!("{moment}:{at}")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{name}: {}", small::said(&output));
    let output = site.run(&["resume"]);
    // Nobody can tell how far an interrupted restore has come: then it is all taken back.
    let code = if at == step("migrate") { 4 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{name}: {}", small::said(&output));
    if code == 4 {
        site.assert_holds("1.1", &name);
        site.ok(&["rollback", "--with-data", "--yes"]);
    }
    site.reference.go_back();
    site.assert_holds("1.0", &name);
}
