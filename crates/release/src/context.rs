//! What a step has at hand: its target, its plan, its journal, and the adapters it works with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use entracte_backup::Repository;
use entracte_db::Database;
use entracte_gate::external::{Capabilities, GateDriver};
use entracte_host::hook::Ending;
use entracte_host::local::Local;
use entracte_host::op::{Host, Op, Reply};
use entracte_model::journal::{Event, Fault, Level};
use entracte_model::plan::{Plan, Source, StepId};
use entracte_package::archive::{self, Archive};

use crate::clock::now;
use crate::fault::{Doing, broken, refused, stopped};
use crate::store::Store;
use crate::target::Target;

/// The shortest time between two progress entries of one step, in milliseconds: progress is for
/// people.
const PROGRESS_EVERY_MS: u64 = 250;
/// How often a waiting step looks whether it waited long enough, in milliseconds.
pub(crate) const POLL_MS: u64 = 50;

/// What a step works with.
pub struct Context<'a> {
    /// The production.
    pub(crate) target: &'a Target,
    /// The plan that is carried out.
    pub(crate) plan: Plan,
    /// The journal and all else that is kept.
    pub(crate) store: Store,
    /// Set when somebody asked to stop.
    pub(crate) stop: Arc<AtomicBool>,
    /// The machine.
    pub(crate) host: Box<dyn Host>,
    /// The backup repository, once it was opened: its key takes a second to derive.
    pub(crate) repository: Option<Repository>,
    step: StepId,
    reported: Instant,
}

impl<'a> Context<'a> {
    pub(crate) fn new(target: &'a Target, plan: Plan, store: Store, stop: Arc<AtomicBool>) -> Self {
        let host = Box::new(Local);
        let reported = Instant::now();
        Self { target, plan, store, stop, host, repository: None, step: StepId(0), reported }
    }

    /// From here on, what is said belongs to this step.
    pub(crate) fn enter(&mut self, step: StepId) {
        self.step = step;
        self.reported = Instant::now();
    }

    /// Says something that people should read. What cannot be written down is not worth failing for:
    /// the next real entry meets the same disk and does fail.
    pub(crate) fn say(&mut self, level: Level, text: impl Into<String>) {
        let event = Event::Said { step: Some(self.step), level, text: text.into() };
        self.note(&event);
    }

    /// Writes down what changes no state. It survives the death of this process; on the disk it is
    /// with the next entry that does, so a power cut can cost the last words. Inside the closed
    /// window each wait for the disk is time that players wait.
    fn note(&mut self, event: &Event) {
        let plan = &self.plan;
        let _ = self.store.without_waiting(|store| store.append(plan, now(), event));
    }

    pub(crate) fn info(&mut self, text: impl Into<String>) {
        self.say(Level::Info, text);
    }

    /// Reports progress, at most every [`PROGRESS_EVERY_MS`].
    pub(crate) fn progress(&mut self, done: u64, total: u64, unit: &str, note: &str) {
        let last = total > 0 && done >= total;
        if !last && self.reported.elapsed() < Duration::from_millis(PROGRESS_EVERY_MS) {
            return;
        }
        self.reported = Instant::now();
        let event = Event::Progressed {
            step: self.step,
            done,
            total,
            unit: unit.to_owned(),
            note: note.to_owned(),
        };
        self.note(&event);
    }

    /// Fails where somebody asked to stop.
    pub(crate) fn safe_point(&self, doing: &str) -> Result<(), Fault> {
        if self.stop.load(Ordering::SeqCst) { Err(stopped(doing)) } else { Ok(()) }
    }

    /// The gate, or the server in its place.
    pub(crate) fn gate(&self) -> Box<dyn GateDriver> {
        crate::front::driver(self.target)
    }

    /// What that can do.
    pub(crate) fn gate_can(&self) -> Capabilities {
        crate::front::capabilities(self.target)
    }

    /// A fresh connection to the game's database.
    pub(crate) fn database(&self) -> Result<Option<Box<dyn Database>>, Fault> {
        let Some(settings) = &self.target.database else { return Ok(None) };
        entracte_db::open(settings).map(Some).doing("connecting to the database")
    }

    /// The package of this plan, its signature verified again.
    pub(crate) fn archive(&self) -> Result<Option<Archive>, Fault> {
        let Source::Package { archive } = &self.plan.source else { return Ok(None) };
        archive::open(archive.as_ref(), &self.target.trusted_keys)
            .map(Some)
            .doing("opening the package")
    }

    /// Runs hook commands one after the other; the first that fails ends it.
    pub(crate) fn hooks(&mut self, name: &str, commands: &[String]) -> Result<(), Fault> {
        for command in commands {
            let op = Op::Hook {
                name: name.to_owned(),
                command: command.clone(),
                dir: self.target.root.clone(),
                timeout_ms: self.target.hooks.timeout_ms,
                env: [
                    ("ENTRACTE_RELEASE".to_owned(), self.plan.id.to_string()),
                    ("ENTRACTE_VERSION".to_owned(), self.plan.to.version.to_string()),
                ]
                .into(),
            };
            let reply = self
                .host
                .call(&op, &mut |_| {})
                .map_err(|error| broken(&format!("running the {name} command"), &error))?;
            let Reply::Hook { done } = reply else {
                return Err(refused(format!("the host answered something else to {name}")));
            };
            if !matches!(done.ending, Ending::Exit { code: 0 }) {
                let tail = done.output.trim_end();
                let message = format!("the {name} command `{command}` {}: {tail}", done.ending);
                return Err(Fault::new(entracte_model::journal::FaultKind::Broken, message)
                    .hint(format!("run it by hand as the same user, or change hooks.{name}")));
            }
        }
        Ok(())
    }

    /// Waits until `ready` says so, at most `limit_ms`. `false`: the time ran out.
    pub(crate) fn wait(
        &mut self,
        limit_ms: u64,
        doing: &str,
        ready: impl FnMut(&mut Self) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        self.wait_every(POLL_MS, limit_ms, doing, ready)
    }

    /// As [`Context::wait`], looking every `poll_ms`.
    pub(crate) fn wait_every(
        &mut self,
        poll_ms: u64,
        limit_ms: u64,
        doing: &str,
        mut ready: impl FnMut(&mut Self) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let deadline = Instant::now() + Duration::from_millis(limit_ms);
        loop {
            if ready(self)? {
                return Ok(true);
            }
            self.safe_point(doing)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(Duration::from_millis(poll_ms)));
        }
    }
}
