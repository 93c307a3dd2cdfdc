//! Follows the gate: its phases as it dates them itself, and a living line for whoever watches.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use entracte_gate::control::Client;
use entracte_model::UnixMs;
use entracte_model::gate::Phase;

use super::players::Now;
use super::screen::Screen;

/// How often the gate is asked, in milliseconds. A closed game is closed for longer: proving that
/// nobody writes takes more than 100 ms.
const POLL_MS: u64 = 30;
/// Over how long requests are counted for their rate, in milliseconds.
const RATE_MS: u64 = 1_000;

/// A time in which the gate was closed, by its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Since when.
    pub from: UnixMs,
    /// Until when.
    pub until: UnixMs,
}

impl Closed {
    /// How long, in milliseconds.
    pub fn ms(&self) -> u64 {
        self.until.since(self.from)
    }
}

/// Follows the gate until it is dropped or finished.
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Phase, UnixMs)>>>,
}

impl Monitor {
    /// Follows the gate at `socket` and the crowd `now`.
    pub fn start(socket: &Path, now: Arc<Now>, screen: Arc<Screen>) -> Self {
        let client = Client::new(socket);
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || follow(&client, &now, &screen, &ends));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; the times in which the gate was closed.
    pub fn finish(mut self) -> Vec<Closed> {
        closed(&self.end())
    }

    fn end(&mut self) -> Vec<(Phase, UnixMs)> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.end();
    }
}

fn follow(client: &Client, now: &Now, screen: &Screen, stop: &AtomicBool) -> Vec<(Phase, UnixMs)> {
    let mut phases: Vec<(Phase, UnixMs)> = Vec::new();
    let mut rate = Rate::default();
    screen.begin_live();
    while !stop.load(Ordering::SeqCst) {
        if let Ok(status) = client.status() {
            let per_s = rate.of(now.answered.load(Ordering::Relaxed));
            let is_new = phases.last().is_none_or(|(phase, _)| *phase != status.phase);
            if is_new {
                if !phases.is_empty() {
                    screen.say(line(screen, status.phase, now, per_s, true));
                }
                phases.push((status.phase, status.since));
            }
            screen.live(line(screen, status.phase, now, per_s, false));
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    screen.end_live();
    phases
}

/// Requests a second over the last second.
#[derive(Debug, Default)]
struct Rate {
    counts: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    fn of(&mut self, count: u64) -> u64 {
        let at = Instant::now();
        self.counts.push_back((at, count));
        let window = Duration::from_millis(RATE_MS);
        while self.counts.len() > 2
            && self.counts.front().is_some_and(|(then, _)| at - *then > window)
        {
            self.counts.pop_front();
        }
        let Some((then, first)) = self.counts.front() else { return 0 };
        let ms = u64::try_from((at - *then).as_millis()).unwrap_or(u64::MAX);
        ((count - first) * 1_000).checked_div(ms).unwrap_or(0)
    }
}

fn line(screen: &Screen, phase: Phase, now: &Now, per_s: u64, stays: bool) -> String {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (inside, at_door, lost) = (count(&now.inside), count(&now.at_door), count(&now.lost));
    let word = format!("{:9}", phase.name());
    let paint = screen.paint;
    let word = match phase {
        Phase::Open => paint.good(word),
        Phase::Closed | Phase::Holding => paint.bad(word),
        Phase::Announced | Phase::Draining | Phase::Reopening => paint.warn(word),
    };
    let mark = if stays { format!("  {} ", paint.accent("▌")) } else { String::new() };
    let figures = match phase {
        Phase::Closed | Phase::Holding => format!("{} players wait", inside + at_door),
        _ => format!("{inside:>3} in, {at_door:>2} at the door, {per_s:>3} requests/s"),
    };
    let tail = match (lost, stays) {
        (0, true) => paint.dim(meaning(phase)).to_string(),
        (0, false) => paint.dim(format!("{} answered", count(&now.answered))).to_string(),
        (lost, _) => paint.bad(format!("{lost} lost")).to_string(),
    };
    format!("{mark}{} {word} {figures}  {tail}", paint.accent("gate"))
}

/// What a phase means to the players.
fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Open => "everybody plays",
        Phase::Announced => "a banner says when it closes",
        Phase::Draining => "login closed, who is in plays on",
        Phase::Holding => "requests wait for a moment",
        Phase::Closed => "whoever asks gets a page with a countdown",
        Phase::Reopening => "coming in, one after the other",
    }
}

/// The closed times in a list of phases with their beginnings.
fn closed(phases: &[(Phase, UnixMs)]) -> Vec<Closed> {
    let pairs = phases.windows(2);
    pairs
        .filter_map(|pair| match pair {
            [(Phase::Closed, from), (_, until)] => Some(Closed { from: *from, until: *until }),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_is_from_the_beginning_of_closed_to_the_beginning_of_the_next_phase() {
        let at = UnixMs;
        let phases = [
            (Phase::Open, at(0)),
            (Phase::Draining, at(10)),
            (Phase::Closed, at(30)),
            (Phase::Open, at(75)),
            (Phase::Closed, at(90)),
        ];
        assert_eq!(closed(&phases), [Closed { from: at(30), until: at(75) }]);
        assert_eq!(closed(&phases)[0].ms(), 45);
    }
}
