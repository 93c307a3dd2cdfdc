//! A release as it happens: one line a step, progress below, what players met at the end.

use std::collections::BTreeMap;
use std::time::Instant;

use entracte_model::UnixMs;
use entracte_model::journal::{Entry, Event, Level, Outcome, Question};
use entracte_model::plan::{Plan, StepId};
use entracte_model::time::{human_bytes, human_ms};
use entracte_release::{history, planner};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Paint, out};
use crate::exit::{Exit, of_outcome, only_looked};

/// The width of a step's name.
const NAME_WIDTH: usize = 12;

/// How a followed release ended, as far as it did.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// It goes on.
    NotYet,
    /// It is over.
    Finished(Outcome),
    /// It waits for a person.
    Asks(Question),
}

/// Renders the journal of one release.
pub struct Live {
    plan: Plan,
    paint: Paint,
    json: bool,
    quiet: bool,
    bar: ProgressBar,
    log: Vec<Entry>,
    began: BTreeMap<StepId, UnixMs>,
    rate: Rate,
    ending: Ending,
}

impl Live {
    /// A renderer for the release of `plan`.
    pub fn new(plan: Plan, paint: Paint, json: bool, quiet: bool) -> Self {
        let target = match paint.terminal && !json && !quiet {
            true => ProgressDrawTarget::stdout(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("  {spinner:.cyan} {msg}") {
            bar.set_style(style);
        }
        let (log, began, rate) = (Vec::new(), BTreeMap::new(), Rate::default());
        Self { plan, paint, json, quiet, bar, log, began, rate, ending: Ending::NotYet }
    }

    /// The heading, before anything happens.
    pub fn heading(&self) {
        let plan = &self.plan;
        let from = plan.from.as_ref().map_or("nothing".to_owned(), |base| base.version.to_string());
        self.line(&format!(
            "{} {} {} → {} on {}. {}",
            self.paint.bold(plan.id),
            plan.project,
            from,
            self.paint.bold(&plan.to.version),
            plan.environment,
            planner::window(plan)
        ));
    }

    /// The last entry shown.
    pub fn seen(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.seq)
    }

    /// How it ended, as far as it did.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Lets the spinner turn while nothing happens.
    pub fn tick(&self) {
        self.bar.tick();
    }

    /// Shows one entry.
    pub fn show(&mut self, entry: Entry) {
        if self.json {
            // An entry that came out of a journal goes back into JSON.
            out::line(serde_json::to_string(&entry).unwrap_or_default());
        } else {
            self.render(&entry);
        }
        self.remember(&entry);
        self.log.push(entry);
    }

    /// Whatever came after the release, or a person's answer, makes the ending void again.
    fn remember(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Started { step, .. } => {
                self.began.insert(*step, entry.at);
            }
            Event::Asked { question } => self.ending = Ending::Asks(question.clone()),
            Event::Finished { outcome } => self.ending = Ending::Finished(outcome.clone()),
            Event::Began { .. } => self.ending = Ending::NotYet,
            _ => {}
        }
    }

    fn render(&mut self, entry: &Entry) {
        let paint = self.paint;
        match &entry.event {
            Event::Began { pid, .. } if !self.log.is_empty() => {
                self.line(&format!("  {} taken up again by process {pid}", paint.warn("↻")));
            }
            Event::Began { .. } | Event::Retried {} => {}
            Event::Started { step, .. } => {
                self.rate = Rate::default();
                self.bar.set_message(self.name(*step));
            }
            Event::Progressed { step, done, total, unit, note } => {
                let text = self.rate.text(*done, *total, unit, note);
                self.bar.set_message(format!("{:NAME_WIDTH$} {text}", self.name(*step)));
            }
            Event::Said { level, text, .. } => self.said(*level, text),
            Event::Done { step, .. } => {
                let took = self.began.get(step).map_or(0, |at| entry.at.since(*at));
                self.step(&paint.good("✓").to_string(), *step, &human_ms(took));
            }
            Event::Failed { step, fault } => {
                self.bad_step(&paint.bad("✗").to_string(), *step, "");
                self.bad_line(&format!("    {}", paint.bad(&fault.message)));
                if let Some(hint) = &fault.hint {
                    self.bad_line(&format!("    {} {hint}", paint.dim("hint:")));
                }
            }
            Event::UndoStarted { step } => {
                self.bar.set_message(format!("{:NAME_WIDTH$} taking it back", self.name(*step)));
            }
            Event::Undone { step } => self.step(&paint.warn("↩").to_string(), *step, "taken back"),
            Event::UndoFailed { step, fault } => {
                self.bad_step(&paint.bad("‼").to_string(), *step, "could not be taken back");
                self.bad_line(&format!("    {}", paint.bad(&fault.message)));
            }
            Event::AbortRequested { by } => {
                self.line(&format!("  {} asked to stop by {by}", paint.warn("■")));
            }
            Event::Asked { .. } => {
                self.bad_line(&format!("  {} a person must decide", paint.bad("?")));
            }
            Event::Finished { outcome } => self.finished(entry, outcome),
        }
    }

    /// How the command ends that follows this release, once it is over.
    pub fn exit(&self, outcome: &Outcome) -> Exit {
        of_outcome(outcome, &self.plan, &self.log)
    }

    fn finished(&mut self, entry: &Entry, outcome: &Outcome) {
        let paint = self.paint;
        let mut log = self.log.clone();
        log.push(entry.clone());
        let closed = history::closed_ms(&self.plan, &log).map_or(String::new(), |ms| {
            match self.plan.holds() {
                true => format!(" Requests waited for at most {}.", human_ms(ms)),
                false => format!(" Closed for {}.", human_ms(ms)),
            }
        });
        let to = &self.plan.to.version;
        let text = match outcome {
            Outcome::Released { warnings: 0 } => {
                format!("{} {to} is live.{closed}", paint.good("Done."))
            }
            Outcome::Released { warnings } => format!(
                "{} {to} is live.{closed} {} after the reopening did not work.",
                paint.good("Done."),
                out::count(usize::try_from(*warnings).unwrap_or(usize::MAX), "step")
            ),
            Outcome::Unwell { fault } => format!(
                "{} {to} is live, and unwell: {}\n  Back: entracte rollback",
                paint.bad("Look at it."),
                fault.message
            ),
            Outcome::TakenBack { fault } if only_looked(fault, &self.plan, &log) => {
                format!("{} nothing was changed.", paint.warn("Refused:"))
            }
            Outcome::TakenBack { fault } => {
                let from = self.plan.from.as_ref();
                let old = from.map_or("empty".to_owned(), |base| base.version.to_string());
                format!(
                    "{} production is {old}, to the byte.{closed}\n  Why: {}",
                    paint.warn("Taken back:"),
                    fault.message
                )
            }
        };
        self.bar.finish_and_clear();
        match outcome {
            Outcome::Released { warnings: 0 } => self.line(&text),
            _ => self.bad_line(&text),
        }
    }

    fn said(&self, level: Level, text: &str) {
        let paint = self.paint;
        match level {
            Level::Info => self.line(&format!("    {}", paint.dim(text))),
            Level::Warning => self.bad_line(&format!("    {} {text}", paint.warn("warning:"))),
            Level::Alarm => self.bad_line(&format!("    {} {text}", paint.bad("ALARM:"))),
        }
    }

    fn step(&self, sign: &str, step: StepId, note: &str) {
        self.line(&format!("  {sign} {:NAME_WIDTH$} {}", self.name(step), self.paint.dim(note)));
    }

    fn bad_step(&self, sign: &str, step: StepId, note: &str) {
        let text = format!("  {sign} {:NAME_WIDTH$} {}", self.name(step), self.paint.dim(note));
        self.bad_line(text.trim_end());
    }

    /// What went wrong: those who want quiet want to know it.
    fn bad_line(&self, text: &str) {
        match (self.json, self.quiet) {
            (true, _) => {}
            (false, true) => out::note(text),
            (false, false) => self.line(text),
        }
    }

    fn name(&self, step: StepId) -> String {
        self.plan.step(step).map_or_else(|| format!("step {}", step.0), |s| s.name().to_owned())
    }

    fn line(&self, text: &str) {
        if self.quiet || self.json {
            return;
        }
        self.bar.suspend(|| out::line(text));
    }
}

/// The rate and the remaining time of a step that reports progress.
#[derive(Debug, Default)]
pub struct Rate {
    since: Option<(Instant, u64)>,
}

impl Rate {
    /// What is done of how much, how fast, and how long it will take.
    pub fn text(&mut self, done: u64, total: u64, unit: &str, note: &str) -> String {
        let (began, first) = *self.since.get_or_insert((Instant::now(), done));
        let amount = |number: u64| match unit {
            "bytes" => human_bytes(number),
            "ms" => human_ms(number),
            unit => format!("{number} {unit}"),
        };
        let mut text = match total {
            0 => amount(done),
            total => format!("{} of {}", amount(done), amount(total)),
        };
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let moved = done.saturating_sub(first);
        if elapsed_ms >= 1_000 && moved > 0 && unit != "ms" {
            let per_s = moved.saturating_mul(1_000) / elapsed_ms;
            let left_ms = total.saturating_sub(done).saturating_mul(elapsed_ms) / moved;
            text.push_str(&format!(", {}/s, {} left", amount(per_s), human_ms(left_ms)));
        }
        if !note.is_empty() {
            text.push_str("  ");
            text.push_str(note);
        }
        text
    }
}
