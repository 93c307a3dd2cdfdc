//! The crash sweep on the pure core: a simulated world, a runner that is killed at every moment.
//!
//! Every step's effect is a flag of the world. The runner is killed before and after every effect
//! and before and after every journal entry, once and twice, with every step failing or none, and
//! somebody asking to stop or not. Whatever happens, the world ends as all old or all new.

use std::collections::BTreeSet;

use entracte_model::hash::Hash;
use entracte_model::journal::{Entry, Event, Fault, FaultKind, Outcome};
use entracte_model::plan::{FORMAT, Plan, Planned, Range, ReleaseId, Source, Step, StepId};
use entracte_model::progress::{Next, Probe, Seen, decide, fold};
use entracte_model::record::Base;
use entracte_model::time::UnixMs;
use serde_json::Value;

fn plan() -> Plan {
    plan_of(&[
        Step::Preflight {},
        Step::Stage {},
        Step::Backup {},
        Step::Announce { notice_ms: 0 },
        Step::Drain { deadline_ms: 0 },
        Step::Close {},
        Step::WindowCopy {},
        Step::Migrate {},
        Step::Switch {},
        Step::Smoke {},
        Step::Reopen {},
        Step::Tell {},
        Step::Watch { for_ms: 0 },
        Step::Retire {},
    ])
}

/// A release that leaves the database alone.
fn holding_plan() -> Plan {
    plan_of(&[
        Step::Preflight {},
        Step::Stage {},
        Step::Backup {},
        Step::Hold { limit_ms: 0 },
        Step::Switch {},
        Step::Smoke {},
        Step::Reopen {},
        Step::Tell {},
        Step::Watch { for_ms: 0 },
        Step::Retire {},
    ])
}

fn plan_of(steps: &[Step]) -> Plan {
    let base = |text: &str| Base {
        version: text.parse().expect("a version"),
        manifest: Hash::of(text.as_bytes()),
    };
    Plan {
        format: FORMAT,
        id: ReleaseId(1),
        project: "taverne".into(),
        environment: "production".into(),
        from: Some(base("1.0")),
        to: base("1.1"),
        sequence: 1,
        source: Source::Package { archive: "p".into() },
        scripts: vec![],
        steps: steps
            .iter()
            .map(|step| Planned { step: *step, expected: Range::default() })
            .collect(),
        closed: Range::default(),
        point: None,
    }
}

/// The runner was killed.
struct Killed;

struct World {
    /// Steps whose effect is there.
    effects: BTreeSet<usize>,
    /// Whether a player wrote after the reopening.
    played: bool,
    journal: Vec<Entry>,
    /// Moments until the next kill, none left for no more kills.
    kills: Vec<u32>,
    moments: u32,
    failing: Option<usize>,
    stop_at: Option<usize>,
    entries_max: usize,
}

impl World {
    /// A moment at which the runner can be killed.
    fn moment(&mut self) -> Result<(), Killed> {
        self.moments += 1;
        if self.kills.last() == Some(&self.moments) {
            self.kills.pop();
            self.moments = 0;
            return Err(Killed);
        }
        Ok(())
    }

    fn write(&mut self, event: Event) -> Result<(), Killed> {
        self.moment()?;
        let seq = self.journal.len() as u64 + 1;
        self.journal.push(Entry { seq, at: UnixMs(0), event });
        assert!(self.journal.len() < self.entries_max, "the release does not end");
        self.moment()
    }

    fn run(&mut self, plan: &Plan) -> Result<Outcome, Killed> {
        if let Some(outcome) = fold(plan, &self.journal).expect("the journal is legal").outcome {
            return Ok(outcome);
        }
        self.write(Event::Began { pid: 1, tool: "0".into() })?;
        let mut seen = None;
        loop {
            let at = fold(plan, &self.journal).expect("the journal is legal");
            if self.stop_at.is_some_and(|entries| self.journal.len() >= entries)
                && at.abort.is_none()
                && at.outcome.is_none()
            {
                self.write(Event::AbortRequested { by: "SIGINT".into() })?;
                continue;
            }
            match decide(plan, &at, seen.take().as_ref()) {
                Next::Run(id) => self.step(id, plan)?,
                Next::Probe(id) => {
                    let there = self.effects.contains(&id.0);
                    seen = Some(if there { Probe::Done(Value::Null) } else { Probe::NotDone });
                }
                Next::Record(step, Seen::Done(receipt)) => {
                    self.write(Event::Done { step, receipt })?;
                }
                Next::Record(step, Seen::Failed(fault)) => {
                    self.write(Event::Failed { step, fault })?;
                }
                Next::Undo(step) => {
                    self.write(Event::UndoStarted { step })?;
                    self.effects.remove(&step.0);
                    self.moment()?;
                    self.write(Event::Undone { step })?;
                }
                Next::Finish(outcome) => self.write(Event::Finished { outcome })?,
                Next::Finished(outcome) => return Ok(outcome),
                Next::Ask(question) => panic!("nobody should be asked: {question:?}"),
            }
        }
    }

    fn step(&mut self, step: StepId, plan: &Plan) -> Result<(), Killed> {
        self.write(Event::Started { step, before: Value::Null })?;
        if self.failing == Some(step.0) {
            let fault = Fault::new(FaultKind::Broken, "broken on purpose");
            return self.write(Event::Failed { step, fault });
        }
        self.effects.insert(step.0);
        if Some(step) == plan.reopening() {
            self.played = true;
        }
        self.moment()?;
        self.write(Event::Done { step, receipt: Value::Null })
    }
}

fn release(
    plan: &Plan,
    kills: &[u32],
    failing: Option<usize>,
    stop_at: Option<usize>,
) -> (World, Outcome) {
    let mut world = World {
        effects: BTreeSet::new(),
        played: false,
        journal: vec![],
        kills: kills.iter().rev().copied().collect(),
        moments: 0,
        failing,
        stop_at,
        entries_max: 400,
    };
    loop {
        if let Ok(outcome) = world.run(plan) {
            return (world, outcome);
        }
    }
}

fn check(plan: &Plan, kills: &[u32], failing: Option<usize>, stop_at: Option<usize>) {
    let case = format!("kills {kills:?}, failing {failing:?}, stop {stop_at:?}");
    let (world, outcome) = release(plan, kills, failing, stop_at);
    let undoable = |id: &usize| plan.step(StepId(*id)).is_some_and(Step::has_undo);
    match outcome {
        Outcome::TakenBack { .. } => {
            assert!(!world.played, "{case}: taken back although players had written");
            let left: Vec<_> = world.effects.iter().filter(|id| undoable(id)).collect();
            assert!(left.is_empty(), "{case}: taken back, but {left:?} are still there");
        }
        Outcome::Released { .. } => {
            assert!(world.played, "{case}: released, but never reopened");
            let missing: Vec<_> = (0..plan.steps.len())
                .filter(|id| !world.effects.contains(id) && failing != Some(*id))
                .collect();
            assert!(missing.is_empty(), "{case}: released without {missing:?}");
        }
        Outcome::Unwell { .. } => panic!("{case}: nothing was unwell"),
    }
}

#[test]
fn every_single_kill_ends_in_all_old_or_all_new() {
    for plan in [plan(), holding_plan()] {
        for failing in std::iter::once(None).chain((0..plan.steps.len()).map(Some)) {
            for kill in 0..140 {
                check(&plan, &[kill], failing, None);
            }
        }
    }
}

#[test]
fn every_pair_of_kills_ends_in_all_old_or_all_new() {
    let plan = plan();
    for failing in [None, Some(7), Some(9), Some(10), Some(11)] {
        for first in 1..110 {
            for second in 1..60 {
                check(&plan, &[first, second], failing, None);
            }
        }
    }
}

#[test]
fn asking_to_stop_at_any_moment_with_a_kill_at_any_moment_is_safe() {
    for plan in [plan(), holding_plan()] {
        for stop in 1..40 {
            for kill in 0..110 {
                check(&plan, &[kill], None, Some(stop));
            }
        }
    }
}

#[test]
fn without_trouble_it_is_released_and_a_failure_before_the_reopening_takes_it_back() {
    for plan in [plan(), holding_plan()] {
        let reopening = plan.reopening().unwrap().0;
        assert_eq!(release(&plan, &[], None, None).1, Outcome::Released { warnings: 0 });
        for failing in 0..plan.steps.len() {
            let (_, outcome) = release(&plan, &[], Some(failing), None);
            if failing <= reopening {
                assert!(
                    matches!(outcome, Outcome::TakenBack { .. }),
                    "step {failing}: {outcome:?}"
                );
            } else {
                assert_eq!(outcome, Outcome::Released { warnings: 1 }, "step {failing}");
            }
        }
    }
}

#[test]
fn a_person_is_asked_once_about_an_unclear_step_and_then_decides() {
    let plan = plan();
    let reopening = plan.reopening().expect("the plan reopens");
    let mut journal: Vec<Entry> = vec![];
    let mut write = |event: Event| {
        let seq = journal.len() as u64 + 1;
        journal.push(Entry { seq, at: UnixMs(0), event });
        fold(&plan, &journal).expect("the journal is legal")
    };
    let began = || Event::Began { pid: 1, tool: "0".into() };
    write(began());
    for step in (0..=reopening.0).map(StepId) {
        write(Event::Started { step, before: Value::Null });
        if step != reopening {
            write(Event::Done { step, receipt: Value::Null });
        }
    }
    // The runner dies here; `entracte resume` always says "try again", also before any question.
    let unclear = Probe::Unclear("somebody moved the gate".into());
    write(began());
    let at = write(Event::Retried {});
    let Next::Ask(question) = decide(&plan, &at, Some(&unclear)) else { panic!("nobody is asked") };
    write(Event::Asked { question });
    write(began());
    let at = write(Event::Retried {});
    assert_eq!(decide(&plan, &at, Some(&unclear)), Next::Run(reopening));
    let at = write(Event::AbortRequested { by: "entracte abort".into() });
    let next = decide(&plan, &at, Some(&unclear));
    assert!(matches!(next, Next::Record(step, Seen::Failed(_)) if step == reopening), "{next:?}");
}
