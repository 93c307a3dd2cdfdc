//! Starts the process of a release, and follows what it writes down.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use entracte_host::lock::Lock;
use entracte_model::plan::ReleaseId;
use entracte_release::{Store, Target};
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::App;
use crate::config::Config;
use crate::exit::{Exit, Failure, question};
use crate::report::{Ending, Live, out};

/// How often the journal is looked at, in milliseconds.
const POLL_MS: u64 = 50;

/// Starts the process that carries `id` out, detached from this one.
pub fn start(
    config: &Config,
    target: &Target,
    id: ReleaseId,
    flags: &[&str],
) -> Result<Child, Failure> {
    if let Some(owner) = Lock::holder(&target.lock()) {
        let message = format!(
            "release {} is at work since {} (process {} of {}@{})",
            owner.release,
            crate::report::local(owner.since),
            owner.pid,
            owner.user,
            owner.host
        );
        return Err(Failure { exit: Exit::Busy, message, hint: None }
            .hint("`entracte log -f` follows it; nothing was changed"));
    }
    let log = target.log(id);
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let out = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
    let child = Command::new(std::env::current_exe()?)
        .arg("--config")
        .arg(&config.path)
        .args(["--target", &target.environment, "run", "--release", &id.to_string()])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    Ok(child)
}

/// Says that a release is under way, for whoever does not follow it: once its process is at work, so
/// that whoever asks next finds it there. One that ended at once has written down why.
pub fn detached(
    app: &App,
    target: &Target,
    id: ReleaseId,
    mut runner: Child,
) -> Result<Exit, Failure> {
    while Lock::holder(&target.lock()).is_none_or(|owner| owner.pid != runner.id())
        && runner.try_wait()?.is_none()
    {
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    let text = format!("{} is under way; `entracte log -f` follows it", app.paint.bold(id));
    app.print(text, &serde_json::json!({ "release": id, "runner": runner.id() }));
    Ok(Exit::Done)
}

/// Follows a release to its end. The first Ctrl-C asks for it to be taken back and goes on
/// following; the second one stops following, while the release goes on by itself.
pub fn follow(
    app: &App,
    target: &Target,
    id: ReleaseId,
    mut runner: Option<Child>,
) -> Result<Exit, Failure> {
    let Some(store) = Store::open_to_read(&target.store())? else {
        return Err(Failure::broken("the store vanished"));
    };
    let interrupts = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let counter = Arc::clone(&interrupts);
        // Counting is all that a signal handler may do here.
        signal_hook::flag::register_usize(signal, counter, 1)?;
    }
    let plan = store.release(id)?.plan;
    let mut live = Live::new(plan, app.paint, app.global.json, app.global.quiet);
    live.heading();
    // A release that was taken up again has an older ending in its journal: only what comes from
    // this runner counts.
    let mut asked_to_stop = false;
    loop {
        let gone = match &mut runner {
            Some(child) => child.try_wait()?.is_some(),
            None => Lock::holder(&target.lock()).is_none(),
        };
        for entry in store.entries(id, live.seen())? {
            live.show(entry);
        }
        live.tick();
        if gone {
            return end(&live, target, id);
        }
        if interrupts.swap(0, Ordering::SeqCst) > 0 {
            if asked_to_stop {
                return Err(Failure::broken(format!("{id} goes on without an audience"))
                    .hint("`entracte log -f` follows it again"));
            }
            asked_to_stop = true;
            ask_to_stop(runner.as_ref());
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn ask_to_stop(runner: Option<&Child>) {
    let pid = runner.and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        out::note("asked it to stop at the next safe point; Ctrl-C again stops watching");
        // A runner that ended meanwhile needs no signal.
        let _ = rustix::process::kill_process(pid, Signal::INT);
    }
}

fn end(live: &Live, target: &Target, id: ReleaseId) -> Result<Exit, Failure> {
    match live.ending() {
        Ending::Finished(outcome) => Ok(live.exit(outcome)),
        Ending::Asks(asked) => Err(question(asked)),
        Ending::NotYet => {
            let log = target.log(id);
            let last = std::fs::read_to_string(&log).unwrap_or_default();
            let last = last.lines().last().unwrap_or("it left no message").to_owned();
            Err(Failure::broken(format!("the process of {id} ended in the middle: {last}"))
                .hint("`entracte resume` goes on, `entracte abort` takes it back"))
        }
    }
}
