//! The long roles: the gate, and the daily duties.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entracte_host::lock::{Lock, LockError, Owner};
use entracte_release::Target;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::App;
use crate::config::Config;
use crate::duties::duties;
use crate::exit::{Exit, Failure};
use crate::report::out;

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
            let holder = Lock::holder(&path).map_or(String::new(), |owner| {
                format!(" (process {} of {})", owner.pid, owner.user)
            });
            Failure::refused(format!(
                "another `entracte up` or `entracte serve` looks after {} already{holder}",
                target.environment
            ))
        }
        LockError::Io { .. } => Failure::from(error),
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
