//! How far something has come that takes longer than a moment.

use std::time::{Duration, Instant};

use entracte_package::Progress;
use indicatif::ProgressBar;

use super::Rate;

/// What ends sooner shows nothing: a line that comes and goes at once only flickers.
const UNSEEN: Duration = Duration::from_millis(400);
/// How often the sign turns that says that something is at work.
const TURN: Duration = Duration::from_millis(120);

/// One line that is written again and again, where somebody looks. It goes with this.
pub struct Meter {
    bar: ProgressBar,
}

impl Meter {
    /// A meter that is only shown to somebody at a terminal.
    pub fn new(is_seen: bool) -> Self {
        let bar = if is_seen { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { bar }
    }

    /// Takes how much is done of how much (0: nobody knows), of what unit, and what is at work.
    pub fn heard(&self) -> impl FnMut(u64, u64, &str, &str) {
        let bar = self.bar.clone();
        let (mut rate, mut at_work_on, mut before) = (Rate::default(), String::new(), 0);
        let (began, mut shows) = (Instant::now(), false);
        move |done, total, unit, note| {
            if note != at_work_on || done < before {
                // Another part has another speed.
                (rate, at_work_on) = (Rate::default(), note.to_owned());
            }
            before = done;
            let text = match (done, total) {
                (0, 0) => note.to_owned(),
                _ => rate.text(done, total, unit, note),
            };
            if shows || began.elapsed() >= UNSEEN {
                bar.set_message(text);
                if !shows {
                    bar.enable_steady_tick(TURN);
                    shows = true;
                }
            }
        }
    }

    /// Takes how far work on files has come, all of it called `what`.
    pub fn of(&self, what: &'static str) -> impl FnMut(Progress) {
        let mut heard = self.heard();
        move |progress| heard(progress.done, progress.total, progress.unit, what)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
