//! What has to be done while nobody looks: releases that wait or were interrupted, the daily
//! backup, messages that wait. None of them holds up another.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entracte_host::lock::Lock;
use entracte_model::UnixMs;
use entracte_model::journal::Entry;
use entracte_model::plan::Plan;
use entracte_release::clock::now;
use entracte_release::store::Release;
use entracte_release::{Store, Target, backups, outbox};

use crate::cli::App;
use crate::cli::follow::start;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// How often the duties are looked at.
const ROUND: Duration = Duration::from_millis(500);
/// What failed now fails again at once: whoever mends it gets this long.
const AFTER_A_FAILURE: Duration = Duration::from_secs(60);
/// The setting that remembers the day of the last daily backup.
const BACKED_UP: &str = "daily backup";

/// Looks after all duties until `stop` is set.
pub fn duties(app: &App, config: &Config, target: &Target, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        scope.spawn(|| every(app, stop, || daily_backup(config, target, stop)));
        scope.spawn(|| {
            let mut recovered = false;
            every(app, stop, || post(target, &mut recovered));
        });
        let mut runners: Vec<Child> = Vec::new();
        every(app, stop, || take_up(config, target, &mut runners));
    });
}

fn every(app: &App, stop: &AtomicBool, mut work: impl FnMut() -> Result<(), Failure>) {
    while !stop.load(Ordering::SeqCst) {
        if let Err(failure) = work() {
            out::note(format!("{} {failure}", app.paint.bad("error:")));
            pause(stop, AFTER_A_FAILURE);
        }
        pause(stop, ROUND);
    }
}

fn pause(stop: &AtomicBool, length: Duration) {
    let mut left = length;
    while !left.is_zero() && !stop.load(Ordering::SeqCst) {
        let step = left.min(ROUND);
        std::thread::sleep(step);
        left -= step;
    }
}

/// The store; nothing before production is known, and nothing while a release is at work.
fn idle(target: &Target) -> Result<Option<Store>, Failure> {
    if !target.store().exists() || Lock::holder(&target.lock()).is_some() {
        return Ok(None);
    }
    Ok(Some(Store::open_existing(&target.store())?))
}

/// Resumes what a dead runner left, and starts what is planned for now.
fn take_up(config: &Config, target: &Target, runners: &mut Vec<Child>) -> Result<(), Failure> {
    runners.retain_mut(|runner| !matches!(runner.try_wait(), Ok(Some(_))));
    if !runners.is_empty() {
        return Ok(());
    }
    let Some(store) = idle(target)? else { return Ok(()) };
    let Some(release) = store.unfinished()? else { return Ok(()) };
    if !is_due(&release, &store.entries(release.id, 0)?, now()) {
        return Ok(());
    }
    out::log(format!("taking up {}", release.id));
    match start(config, target, release.id, &[]) {
        Ok(runner) => runners.push(runner),
        // Somebody was faster: `entracte resume`, or the one who planned it.
        Err(failure) if failure.exit == Exit::Busy => {}
        Err(failure) => return Err(failure),
    }
    Ok(())
}

/// Whether an unfinished release that nobody is at work on is to be taken up now.
///
/// One without a time is begun by whoever planned it; one that has begun and lost its runner goes
/// on. One that waits for a person waits, however it was started.
fn is_due(release: &Release, entries: &[Entry], now: UnixMs) -> bool {
    let begun = !entries.is_empty();
    let due = begun || release.start_at.is_some_and(|at| now >= at);
    due && !waits(&release.plan, entries)
}

fn waits(plan: &Plan, entries: &[Entry]) -> bool {
    entracte_model::progress::fold(plan, entries).is_ok_and(|progress| progress.asked.is_some())
}

/// Sends what waits in the outbox.
fn post(target: &Target, recovered: &mut bool) -> Result<(), Failure> {
    if !*recovered {
        // What a sender that died had leased is given back while no release can be sending it.
        let Some(mut store) = idle(target)? else { return Ok(()) };
        outbox::recover(target, &mut store)?;
        *recovered = true;
    }
    let mut store = Store::open_existing(&target.store())?;
    for trouble in outbox::deliver(target, &mut store)?.troubles {
        out::note(trouble);
    }
    Ok(())
}

/// One backup a day, from its configured time on; a machine that slept catches up.
fn daily_backup(config: &Config, target: &Target, stop: &AtomicBool) -> Result<(), Failure> {
    let Some(file) = config.file.target.get(&target.environment) else { return Ok(()) };
    let at = file.backup.daily_at;
    let local = jiff::ZonedDateTime::now();
    let today = local.date().to_string();
    if (local.hour(), local.minute()) < (at.hour, at.minute) {
        return Ok(());
    }
    let Some(store) = idle(target)? else { return Ok(()) };
    if store.setting(BACKED_UP)?.as_deref() == Some(&today) || store.production()?.is_none() {
        return Ok(());
    }
    let reason = entracte_backup::Reason::Daily;
    let taken = backups::take(target, Some(&store), reason, stop, &mut |_, _, _, _| {})
        .map_err(|fault| crate::exit::of_fault(&fault))?;
    store.set_setting(BACKED_UP, Some(&today))?;
    out::log(format!("daily backup: {}", out::count(taken.len(), "snapshot")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use entracte_model::Hash;
    use entracte_model::journal::{Event, Question};
    use entracte_model::plan::{FORMAT, Planned, Range, ReleaseId, Source, Step, StepId};
    use entracte_model::record::Base;

    use super::*;

    fn release(start_at: Option<i64>) -> Release {
        let expected = Range { p50_ms: 1, p90_ms: 1 };
        let plan = Plan {
            format: FORMAT,
            id: ReleaseId(1),
            project: "taverne".into(),
            environment: "production".into(),
            from: None,
            to: Base { version: "1.1".parse().unwrap(), manifest: Hash::of(b"1.1") },
            sequence: 1,
            source: Source::Package { archive: "x".into() },
            scripts: vec![],
            closed: expected,
            point: None,
            steps: vec![Planned { step: Step::Switch {}, expected }],
        };
        let start_at = start_at.map(UnixMs);
        Release { id: ReleaseId(1), created: UnixMs(0), plan, outcome: None, start_at }
    }

    fn log(asked: bool) -> Vec<Entry> {
        let mut log = vec![Event::Began { pid: 1, tool: "0.1".into() }];
        if asked {
            let question = Question::Unclear { step: StepId(0), seen: "?".into() };
            log.push(Event::Asked { question });
        }
        let entry = |(seq, event)| Entry { seq, at: UnixMs(0), event };
        (1..).zip(log).map(entry).collect()
    }

    #[test]
    fn what_waits_for_its_time_a_person_or_its_starter_is_left_alone() {
        let now = UnixMs(100);
        assert!(!is_due(&release(None), &[], now), "its starter begins it");
        assert!(!is_due(&release(Some(101)), &[], now), "not yet");
        assert!(is_due(&release(Some(100)), &[], now));
        assert!(is_due(&release(None), &log(false), now), "it lost its runner");
        assert!(!is_due(&release(None), &log(true), now), "a person must decide");
        assert!(!is_due(&release(Some(1)), &log(true), now), "planned or not");
    }
}
