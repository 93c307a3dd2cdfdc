//! Tells a release as it happens, from its journal.

use entracte_host::lock::Lock;
use entracte_host::wire::{Ask, Tell, frame};
use entracte_model::UnixMs;
use entracte_model::plan::ReleaseId;
use entracte_release::clock::now;
use entracte_release::{Store, Target};
use rustix::process::{Pid, Signal};

use super::{Agent, Answered, End, Happening};
use crate::cli::log::last;
use crate::exit::Failure;

/// How often the journal is looked at, in milliseconds.
const POLL_MS: u64 = 50;
/// How many looks without anything new until the connection is shown that it lives.
const STILL_LOOKS: u32 = 200;
/// How long the process of a release may take to write its first entry, in milliseconds.
const STARTING_MS_MAX: u64 = 10_000;

impl Agent {
    /// Tells the journal from `after` on, until the process of the release has ended.
    pub(super) fn follow(
        &mut self,
        release: Option<ReleaseId>,
        after: u64,
        runner: Option<u32>,
    ) -> Answered {
        let begun = self.target().and_then(|target| {
            let store = self.store()?;
            let id = release.map_or_else(|| last(&store), Ok)?;
            let release = store.release(id)?;
            Ok((target, store, release))
        });
        let (target, store, release) = match begun {
            Ok(begun) => begun,
            Err(failure) => return Ok(Err(failure)),
        };
        let (id, created) = (release.plan.id, release.created);
        self.tell(&Tell::Following { plan: Box::new(release.plan) })?;
        let mut seen = after;
        let mut still = 0;
        loop {
            // In this order: what was written before the end is told before the end is.
            let gone = is_gone(&target, runner) && !(seen == 0 && is_young(created));
            let told = self.entries(&store, id, &mut seen)?;
            if let Err(failure) = told {
                return Ok(Err(failure));
            }
            if gone {
                let last = last_words(&target, id);
                return self.tell(&Tell::Over { last }).map(Ok);
            }
            still += 1;
            if still == STILL_LOOKS {
                still = 0;
                self.tell(&Tell::Still {})?;
            }
            match self.happening(POLL_MS)? {
                Some(Happening::Frame(frame)) => match frame::message(&frame?)? {
                    Ask::Stop {} => ask_to_stop(&target, runner),
                    _ => {
                        return Err(End::Told(Failure::usage(
                            "expected nothing but a word to stop",
                        )));
                    }
                },
                Some(Happening::Printed { .. }) | None => {}
            }
        }
    }

    fn entries(&mut self, store: &Store, id: ReleaseId, seen: &mut u64) -> Answered {
        let entries = match store.entries(id, *seen) {
            Ok(entries) => entries,
            Err(error) => return Ok(Err(error.into())),
        };
        for entry in entries {
            *seen = entry.seq;
            self.tell(&Tell::Entry { entry: Box::new(entry) })?;
        }
        Ok(Ok(()))
    }
}

/// Whether nobody carries the release out any more: neither who holds the lock, nor who was just
/// started and does not hold it yet.
fn is_gone(target: &Target, runner: Option<u32>) -> bool {
    Lock::holder(&target.lock()).is_none() && !runner.is_some_and(lives)
}

/// Whether a release was made so shortly ago that its process may not have begun.
fn is_young(created: UnixMs) -> bool {
    now().since(created) < STARTING_MS_MAX
}

/// Whether a process lives; one that only waits to be reaped does not.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name, in brackets, may hold anything; the state follows the last bracket.
        !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

fn ask_to_stop(target: &Target, runner: Option<u32>) {
    let holder = Lock::holder(&target.lock()).map(|owner| owner.pid).or(runner);
    let pid = holder.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // A release that ended meanwhile needs no signal.
        let _ = rustix::process::kill_process(pid, Signal::INT);
    }
}

fn last_words(target: &Target, id: ReleaseId) -> String {
    let log = std::fs::read_to_string(target.log(id)).unwrap_or_default();
    log.lines().last().unwrap_or("it left no message").chars().take(500).collect()
}
