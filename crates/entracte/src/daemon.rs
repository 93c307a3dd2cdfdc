//! The long roles: the gate, and the daily duties.

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entracte_host::lock::{Lock, LockError, Owner};
use entracte_model::UnixMs;
use entracte_release::clock::now;
use entracte_release::{Store, Target, backups, outbox};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::App;
use crate::cli::follow::start;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// How often the duties are looked at.
const ROUND: Duration = Duration::from_millis(500);
/// The setting that remembers the day of the last daily backup.
const BACKED_UP: &str = "daily backup";

/// Runs the gate until a signal ends it.
pub fn gate(config: &Config, target: &Target) -> Result<Exit, Failure> {
    let stop = signals()?;
    run_gate(config, target, &stop)
}

/// Runs the daily duties until a signal ends them.
pub fn serve(app: &App, config: &Config, target: &Target) -> Result<Exit, Failure> {
    let stop = signals()?;
    let _alone = alone(target)?;
    out::log(format!("the duties of {} are looked after", target.environment));
    std::thread::scope(|scope| {
        scope.spawn(|| dashboard(app, config, target, &stop));
        duties(app, config, target, &stop);
    });
    Ok(Exit::Done)
}

/// Runs both; the gate does not depend on the duties, and ends last.
pub fn up(app: &App, config: &Config, target: &Target) -> Result<Exit, Failure> {
    let stop = signals()?;
    let _alone = alone(target)?;
    std::thread::scope(|scope| {
        let duties = scope.spawn(|| duties(app, config, target, &stop));
        scope.spawn(|| dashboard(app, config, target, &stop));
        let gate = run_gate(config, target, &stop);
        stop.store(true, Ordering::SeqCst);
        // The duties only end by `stop`; a panic in them is no reason to hide how the gate ended.
        let _ = duties.join();
        gate
    })
}

/// The lock that whoever looks after the duties of a production holds.
pub fn lock(target: &Target) -> PathBuf {
    target.state.join("serve.lock")
}

/// Duties are looked after once: two would start a planned release twice, and back up twice.
fn alone(target: &Target) -> Result<Lock, Failure> {
    std::fs::create_dir_all(&target.state)
        .map_err(|error| Failure::broken(format!("{}: {error}", target.state.display())))?;
    let path = lock(target);
    Lock::try_take(&path, &Owner::this("serve")).map_err(|error| match &error {
        LockError::Busy { .. } => {
            let holder = Lock::holder(&path)
                .map_or(String::new(), |owner| format!(" (process {} of {})", owner.pid, owner.user));
            Failure::refused(format!(
                "another `entracte up` or `entracte serve` looks after {} already{holder}",
                target.environment
            ))
        }
        _ => Failure::from(error),
    })
}

/// The dashboard, where one is configured. Nothing else depends on it.
fn dashboard(app: &App, config: &Config, target: &Target, stop: &AtomicBool) {
    let listen = config.file.target.get(&target.environment).and_then(|file| file.dashboard);
    if let Some(listen) = listen
        && let Err(failure) = crate::dashboard::serve(target, listen, stop)
    {
        out::note(format!("{} the dashboard at {listen}: {failure}", app.paint.bad("error:")));
    }
}

fn signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn run_gate(config: &Config, target: &Target, stop: &AtomicBool) -> Result<Exit, Failure> {
    let settings = config.gate(&target.environment)?;
    std::fs::create_dir_all(target.news())?;
    let upstream = settings.upstream.to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ready = move |address| {
        out::log(format!("the gate listens on http://{address}, the game is {upstream}"));
    };
    let shutdown = async {
        while !stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    runtime.block_on(entracte_gate::run(settings, ready, shutdown))?;
    Ok(Exit::Done)
}

/// What has to be done while nobody looks.
fn duties(app: &App, config: &Config, target: &Target, stop: &AtomicBool) {
    let mut children: Vec<Child> = Vec::new();
    let mut recovered = false;
    while !stop.load(Ordering::SeqCst) {
        children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        if let Err(failure) = round(config, target, &mut children, &mut recovered) {
            out::note(format!("{} {failure}", app.paint.bad("error:")));
            // What failed now fails again at once: give whoever mends it a minute.
            pause(stop, Duration::from_secs(60));
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

fn round(
    config: &Config,
    target: &Target,
    children: &mut Vec<Child>,
    recovered: &mut bool,
) -> Result<(), Failure> {
    if !target.store().exists() {
        return Ok(());
    }
    let mut store = Store::open_existing(&target.store())?;
    let busy = Lock::holder(&target.lock()).is_some();
    if !busy && !*recovered {
        outbox::recover(target, &mut store)?;
        *recovered = true;
    }
    if !busy {
        take_up(config, target, &store, children)?;
        daily_backup(config, target, &store)?;
    }
    for trouble in outbox::deliver(target, &mut store)?.troubles {
        out::note(trouble);
    }
    Ok(())
}

/// Resumes what a dead runner left, and starts what is planned for now.
fn take_up(
    config: &Config,
    target: &Target,
    store: &Store,
    children: &mut Vec<Child>,
) -> Result<(), Failure> {
    let Some(release) = store.unfinished()? else { return Ok(()) };
    if !children.is_empty() {
        return Ok(());
    }
    let entries = store.entries(release.id, 0)?;
    let due = match release.start_at {
        Some(at) => now() >= at,
        // A release without a time is begun by whoever planned it. One that has begun and lost
        // its runner is taken up, unless it waits for a person.
        None => !entries.is_empty() && !waits(&release.plan, &entries),
    };
    if due {
        out::log(format!("taking up {}", release.id));
        match start(config, target, release.id, &[]) {
            Ok(child) => children.push(child),
            // Somebody was faster: `entracte resume`, or the one who planned it.
            Err(failure) if failure.exit == Exit::Busy => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn waits(plan: &entracte_model::plan::Plan, entries: &[entracte_model::journal::Entry]) -> bool {
    entracte_model::progress::fold(plan, entries).is_ok_and(|progress| progress.asked.is_some())
}

/// One backup a day, from its configured time on; a machine that slept catches up.
fn daily_backup(config: &Config, target: &Target, store: &Store) -> Result<(), Failure> {
    let Some(file) = config.file.target.get(&target.environment) else { return Ok(()) };
    let at = file.backup.daily_at;
    let local = jiff::ZonedDateTime::now();
    let today = local.date().to_string();
    let due = (local.hour(), local.minute()) >= (at.hour, at.minute);
    if !due || store.setting(BACKED_UP)?.as_deref() == Some(&today) || !known(store)? {
        return Ok(());
    }
    let reason = entracte_backup::Reason::Daily;
    let taken = backups::take(target, Some(store), reason, &mut |_, _, _, _| {})
        .map_err(|fault| crate::exit::of_fault(&fault))?;
    store.set_setting(BACKED_UP, Some(&today))?;
    out::log(format!("daily backup: {}", out::count(taken.len(), "snapshot")));
    Ok(())
}

fn known(store: &Store) -> Result<bool, Failure> {
    Ok(store.production()?.is_some_and(|production| production.since > UnixMs(0)))
}
