//! What a page says, before it becomes HTML or JSON.

use entracte_model::UnixMs;
use entracte_model::gate::{DRAINING_DEFAULT_MS, Goal, PageKind, Phase};
use serde_json::{Value, json};

use super::strings::{Strings, primary};
use crate::core::View;

/// The texts of one page.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) title: String,
    pub(crate) lead: String,
    pub(crate) game: String,
    /// Over the number.
    pub(crate) over: Option<&'static str>,
    /// The duration, in words; a countdown where scripts run.
    pub(crate) big: Option<String>,
    /// Under the number.
    pub(crate) note: Option<String>,
    /// What a screen reader is told when it changes.
    pub(crate) spoken: String,
    pub(crate) progress: Option<u8>,
    pub(crate) message: Option<String>,
    pub(crate) notes_url: Option<String>,
    pub(crate) is_fault: bool,
    phase: Phase,
    until: Option<UnixMs>,
    late: &'static str,
    /// Nothing where the page is made beforehand.
    now: Option<UnixMs>,
}

/// The goal's message in the page's language, else in any language.
pub(crate) fn message_for<'a>(goal: &'a Goal, strings: &Strings) -> Option<&'a str> {
    let same = goal.message.iter().find(|(tag, _)| primary(tag) == strings.lang);
    let found = same.or_else(|| goal.message.iter().next())?;
    Some(found.1.trim()).filter(|text| !text.is_empty())
}

/// What stands in and around the clock.
#[derive(Debug, Default)]
struct Clock {
    over: Option<&'static str>,
    until: Option<UnixMs>,
    note: Option<String>,
}

impl Words {
    pub(crate) fn of(strings: &'static Strings, kind: PageKind, view: &View, game: &str) -> Self {
        let (title, lead, clock) = match kind {
            PageKind::Closed => {
                (strings.closed_title, strings.closed_lead, closed_clock(strings, view))
            }
            PageKind::LoginClosed => {
                (strings.draining_title, strings.draining_lead, draining_clock(strings, view))
            }
            PageKind::WaitingRoom => {
                (strings.waiting_title, strings.waiting_lead, waiting_clock(strings, view))
            }
        };
        let goal = &view.state.goal;
        let mut words = Self::plain(strings, view, game, title, lead);
        words.big = clock.until.map(|until| strings.duration(until.since(view.now)));
        words.spoken = [clock.over, words.big.as_deref(), clock.note.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        (words.over, words.until, words.note) = (clock.over, clock.until, clock.note);
        words.progress = goal.progress.filter(|_| kind == PageKind::Closed);
        words
    }

    pub(crate) fn fault(strings: &'static Strings, view: &View, game: &str) -> Self {
        let mut words = Self::plain(strings, view, game, strings.fault_title, strings.fault_lead);
        words.is_fault = true;
        words.message = None;
        words.notes_url = None;
        words
    }

    /// For a page that is made beforehand: the client's own clock must do.
    pub(crate) fn forget_now(&mut self) {
        self.now = None;
    }

    fn plain(strings: &'static Strings, view: &View, game: &str, title: &str, lead: &str) -> Self {
        let goal = &view.state.goal;
        Self {
            title: title.to_owned(),
            lead: lead.replace("{game}", game),
            game: game.to_owned(),
            over: None,
            big: None,
            note: None,
            spoken: String::new(),
            progress: None,
            message: message_for(goal, strings).map(str::to_owned),
            notes_url: goal.notes_url.clone(),
            is_fault: false,
            phase: view.state.phase,
            until: None,
            late: strings.late,
            now: Some(view.now),
        }
    }

    /// What the page's script works with.
    pub(crate) fn data(&self, strings: &Strings, retry_s: u64) -> Value {
        json!({
            "phase": self.phase,
            "now": self.now,
            "until": self.until,
            "late": if self.phase.is_fenced() { Some(self.late) } else { None },
            "open": strings.waiting_title,
            "fault": self.is_fault,
            "poll": retry_s.min(if self.is_fault { 5 } else { 10 }) * 1_000,
        })
    }
}

fn closed_clock(strings: &Strings, view: &View) -> Clock {
    let goal = &view.state.goal;
    let remains = |at: Option<UnixMs>| at.filter(|at| *at > view.now);
    let promised = goal.reopens_p50.is_some() || goal.reopens_p90.is_some();
    match (remains(goal.reopens_p50), remains(goal.reopens_p90)) {
        (Some(p50), p90) => {
            let most =
                p90.filter(|p90| *p90 > p50).map(|p90| strings.duration(p90.since(view.now)));
            let differs = most.filter(|most| *most != strings.duration(p50.since(view.now)));
            let note = differs.map(|most| strings.at_most.replace("{t}", &most));
            Clock { over: Some(strings.back_in), until: Some(p50), note }
        }
        (None, Some(p90)) => {
            let note = strings.longer.replace("{t}", &strings.duration(p90.since(view.now)));
            Clock { note: Some(note), ..Clock::default() }
        }
        (None, None) if promised => {
            Clock { note: Some(strings.late.to_owned()), ..Clock::default() }
        }
        (None, None) => Clock { note: Some(strings.unknown.to_owned()), ..Clock::default() },
    }
}

fn draining_clock(strings: &Strings, view: &View) -> Clock {
    let goal = &view.state.goal;
    let closes = goal.deadline.or(goal.closes_at).unwrap_or(view.state.since + DRAINING_DEFAULT_MS);
    let back = goal.reopens_p50.filter(|at| *at > view.now);
    let note =
        back.map(|at| format!("{} {}", strings.back_in, strings.duration(at.since(view.now))));
    Clock { over: Some(strings.closes_in), until: Some(closes).filter(|at| *at > view.now), note }
}

fn waiting_clock(strings: &Strings, view: &View) -> Clock {
    let Some((before, wait_s)) = view.ahead else { return Clock::default() };
    let note = match before {
        0 | 1 => strings.place_first.to_owned(),
        _ => strings.place.replace("{n}", &before.to_string()),
    };
    Clock {
        over: Some(strings.your_turn_in),
        until: Some(view.now + wait_s * 1_000),
        note: Some(note),
    }
}

#[cfg(test)]
mod tests {
    use super::super::strings::{EN, FR};
    use super::*;
    use entracte_model::gate::State;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn view(phase: Phase, change: impl FnOnce(&mut Goal)) -> View {
        let mut state = State { phase, ..State::initial(NOW) };
        change(&mut state.goal);
        View { state, now: NOW, ahead: None, enter: false }
    }

    #[test]
    fn the_closed_page_tells_the_time_that_remains_and_owns_up_when_it_is_late() {
        let says = |p50: Option<u64>, p90: Option<u64>, late: u64| {
            let mut view = view(Phase::Closed, |goal| {
                goal.reopens_p50 = p50.map(|ms| NOW + ms);
                goal.reopens_p90 = p90.map(|ms| NOW + ms);
            });
            view.now = NOW + late;
            Words::of(&EN, PageKind::Closed, &view, "Taverne").spoken
        };
        assert_eq!(
            says(Some(180_000), Some(480_000), 0),
            "Back in about 3 minutes at most 8 minutes"
        );
        assert_eq!(says(Some(180_000), None, 0), "Back in about 3 minutes");
        assert!(says(Some(180_000), Some(480_000), 200_000).contains("at most 5 minutes"));
        assert_eq!(says(Some(180_000), Some(480_000), 500_000), EN.late);
        assert_eq!(says(None, None, 0), EN.unknown);
    }

    #[test]
    fn a_message_is_shown_in_the_players_language_else_in_any() {
        let view = view(Phase::Closed, |goal| {
            goal.message.insert("fr-FR".into(), "Bonjour".into());
        });
        let words = |strings| Words::of(strings, PageKind::Closed, &view, "Taverne").message;
        assert_eq!(words(&FR).as_deref(), Some("Bonjour"));
        assert_eq!(words(&EN).as_deref(), Some("Bonjour"));
    }

    #[test]
    fn the_waiting_room_tells_the_place() {
        let mut view = view(Phase::Reopening, |_| {});
        view.ahead = Some((41, 130));
        let words = Words::of(&FR, PageKind::WaitingRoom, &view, "Taverne");
        assert_eq!(words.note.as_deref(), Some("41 joueurs sont devant vous."));
        assert_eq!(words.big.as_deref(), Some("3 minutes"));
    }
}
