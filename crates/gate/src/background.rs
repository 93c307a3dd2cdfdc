//! What the gate does by itself: moving on in time, letting newcomers in, writing its counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entracte_model::gate::Phase;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::bins_file::BinFiles;
use crate::core::Core;
use crate::error::GateError;
use crate::sessions::SessionFile;

/// How often the ramp and the bins are looked at.
const TICK_MS: u64 = 200;
/// How often sessions that came are written.
const SESSIONS_MS: u64 = 3_000;
/// How often all sessions are written, with the moment they were last seen.
const SESSIONS_ALL_MS: u64 = 60_000;
/// The pause after a state could not be written.
const AGAIN_MS: u64 = 1_000;

/// Moves the gate on where time says so.
pub(crate) async fn by_time(core: Arc<Core>) {
    let mut phase = core.phase.subscribe();
    loop {
        let _ = phase.borrow_and_update();
        let due = core.due();
        let reached = async {
            match due {
                Some((at, from, to)) => {
                    sleep_until(at.into()).await;
                    (from, to)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            (from, to) = reached => move_on(&core, from, to).await,
        }
    }
}

async fn move_on(core: &Arc<Core>, from: Phase, to: Phase) {
    if let Err(error) = core.move_on(from, to).await {
        core.alarm(Some(format!("the gate should have become {to}: {}", chain(&error))));
        sleep(Duration::from_millis(AGAIN_MS)).await;
    }
}

/// An error with its causes, for an operator.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Steps the ramp, ends bins, writes counts and sessions.
pub(crate) async fn by_tick(core: Arc<Core>, bins: BinFiles, sessions: SessionFile) {
    let mut tick = interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut written, mut all_written) = (Instant::now(), Instant::now());
    loop {
        tick.tick().await;
        if *core.retired.borrow() {
            // The successor writes from here on.
            return;
        }
        core.pool.prune();
        if core.step_ramp() {
            move_on(&core, Phase::Reopening, Phase::Open).await;
        }
        if let Some(rolled) = core.roll_bins() {
            let hours = rolled.hour_ended.then(|| core.hours());
            let bins = bins.clone();
            note(
                &core,
                spawn_blocking(move || {
                    bins.append(&rolled.bin)?;
                    hours.map_or(Ok(()), |hours| bins.save_hours(&hours))
                })
                .await,
            );
        }
        if written.elapsed() >= Duration::from_millis(SESSIONS_MS) {
            written = Instant::now();
            let refreshing = Arc::clone(&core);
            // Reading files; a panic there would be ours.
            let _ = spawn_blocking(move || refreshing.refresh_tls()).await;
            let all = all_written.elapsed() >= Duration::from_millis(SESSIONS_ALL_MS);
            if all {
                all_written = Instant::now();
                let (bins, hours) = (bins.clone(), core.hours());
                note(&core, spawn_blocking(move || bins.save_hours(&hours)).await);
            }
            if let Some(bytes) = core.sessions_written(all) {
                let sessions = sessions.clone();
                note(&core, spawn_blocking(move || sessions.save(&bytes)).await);
            }
        }
    }
}

/// Counts that cannot be written are no reason to stop serving, but somebody has to know.
fn note(core: &Core, outcome: Result<Result<(), GateError>, tokio::task::JoinError>) {
    if let Ok(Err(error)) = outcome {
        core.alarm(Some(chain(&error)));
    }
}

/// Writes what is left at the end.
pub(crate) fn write_last(
    core: &Core,
    bins: &BinFiles,
    sessions: &SessionFile,
) -> Result<(), GateError> {
    bins.save_hours(&core.hours())?;
    core.sessions_written(true).map_or(Ok(()), |bytes| sessions.save(&bytes))
}
