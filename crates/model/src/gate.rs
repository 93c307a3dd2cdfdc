//! States of the gate: what a request gets, which state may follow which, and when.
//!
//! The gate stands in front of the game and answers in its place while a release is put in. All
//! that it decides is here, by value: [`accept`] for a new goal, [`due`] for what the passing of
//! time does, [`decide`] for one request, [`retry_after_s`] for what a refused client is told,
//! and [`Ramp`] for how fast newcomers are let in again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::UnixMs;

mod decide;
mod ramp;
mod rules;

pub use decide::{Action, Facts, PageKind, decide, retry_after_s};
pub use ramp::{Ramp, RampInput, RampPace};
pub use rules::{BadRule, LoginRule};

/// The format of a written [`State`]. A newer one is refused, never guessed at.
pub const STATE_FORMAT: u32 = 1;
/// How long the gate may hold before it closes by itself, in milliseconds.
pub const HOLDING_MAX_MS: u64 = 30_000;
/// How long draining lasts where the goal names no deadline, in milliseconds.
pub const DRAINING_DEFAULT_MS: u64 = 300_000;
/// The longest text (message of one language, reason) that a goal may carry, in bytes.
pub const TEXT_BYTES_MAX: usize = 2_000;
/// The most languages that a goal's message may have.
pub const LANGUAGES_MAX: usize = 32;

/// What the gate does with players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everybody passes.
    Open,
    /// Everybody passes, and is told that the game will close.
    Announced,
    /// Players who are in go on; nobody new comes in.
    Draining,
    /// Requests wait inside the gate, for seconds.
    Holding,
    /// Everybody gets the maintenance page, except testers.
    Closed,
    /// Players who were in come back; newcomers are let in at a growing rate.
    Reopening,
}

impl Phase {
    /// All phases, in the order of a release.
    pub const ALL: [Phase; 6] = [
        Phase::Open,
        Phase::Announced,
        Phase::Draining,
        Phase::Holding,
        Phase::Closed,
        Phase::Reopening,
    ];

    /// True where no player's request reaches the game.
    pub fn is_fenced(self) -> bool {
        matches!(self, Phase::Holding | Phase::Closed)
    }

    /// The name used on the wire and in files.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Announced => "announced",
            Phase::Draining => "draining",
            Phase::Holding => "holding",
            Phase::Closed => "closed",
            Phase::Reopening => "reopening",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What somebody asks of the gate. A goal with a lower generation than the gate's is refused, so
/// that a runner that was thought dead cannot open a gate that its successor closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// Grows by at least one with every new goal.
    pub generation: u64,
    /// The phase asked for.
    pub phase: Phase,
    /// The release that asks, if any.
    #[serde(default)]
    pub release: Option<String>,
    /// Why, for the operators. Never shown to players.
    #[serde(default)]
    pub reason: String,
    /// When the game closes. In `announced`, the moment at which the login closes.
    #[serde(default)]
    pub closes_at: Option<UnixMs>,
    /// In `draining`: until when players who are in may go on. In `holding`: when the gate closes
    /// instead, if that is before [`HOLDING_MAX_MS`] are over.
    #[serde(default)]
    pub deadline: Option<UnixMs>,
    /// When the game is back, with a probability of one half.
    #[serde(default)]
    pub reopens_p50: Option<UnixMs>,
    /// When the game is back, with a probability of nine tenths.
    #[serde(default)]
    pub reopens_p90: Option<UnixMs>,
    /// How far the work is, in per cent, 0 to 100.
    #[serde(default)]
    pub progress: Option<u8>,
    /// A text for the players, by language tag (`en`, `fr`, `pt-BR`).
    #[serde(default)]
    pub message: BTreeMap<String, String>,
    /// The version that the game has, or will have when it reopens.
    #[serde(default)]
    pub version: Option<String>,
    /// Where the patch notes are: an http(s) address, or a path that starts with one `/`.
    #[serde(default)]
    pub notes_url: Option<String>,
}

impl Goal {
    /// A goal with nothing but its phase.
    pub fn new(generation: u64, phase: Phase, reason: impl Into<String>) -> Self {
        Self {
            generation,
            phase,
            release: None,
            reason: reason.into(),
            closes_at: None,
            deadline: None,
            reopens_p50: None,
            reopens_p90: None,
            progress: None,
            message: BTreeMap::new(),
            version: None,
            notes_url: None,
        }
    }

    /// Looks at everything that a page or a header will be made from.
    fn check(&self) -> Result<(), Refused> {
        let invalid = |field: &str, expected: &str, found: String| Refused::Invalid {
            field: field.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        if let Some(progress) = self.progress.filter(|&p| p > 100) {
            return Err(invalid("progress", "0 to 100", progress.to_string()));
        }
        if self.message.len() > LANGUAGES_MAX {
            return Err(invalid("message", "at most 32 languages", self.message.len().to_string()));
        }
        for (language, text) in &self.message {
            if !is_language_tag(language) {
                return Err(invalid(
                    "message",
                    "language tags such as en or pt-BR",
                    short(language),
                ));
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(invalid(
                    "message",
                    "at most 2000 bytes a language",
                    text.len().to_string(),
                ));
            }
        }
        if self.reason.len() > TEXT_BYTES_MAX {
            return Err(invalid("reason", "at most 2000 bytes", self.reason.len().to_string()));
        }
        for (field, text) in [("release", &self.release), ("version", &self.version)] {
            if let Some(text) =
                text.as_ref().filter(|t| t.len() > 128 || t.chars().any(char::is_control))
            {
                return Err(invalid(
                    field,
                    "at most 128 bytes without control characters",
                    short(text),
                ));
            }
        }
        match &self.notes_url {
            Some(url) if !is_link(url) => Err(invalid(
                "notes_url",
                "http://…, https://… or a path that starts with one /, at most 2000 bytes",
                short(url),
            )),
            _ => Ok(()),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn is_language_tag(text: &str) -> bool {
    (2..=35).contains(&text.len())
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_link(url: &str) -> bool {
    let shaped = url.starts_with("https://")
        || url.starts_with("http://")
        || (url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\"));
    shaped
        && url.len() <= TEXT_BYTES_MAX
        && !url.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// The state of a gate, as it is written down before it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`STATE_FORMAT`].
    pub format: u32,
    /// The phase now. Differs from `goal.phase` after time moved the gate on (see [`due`]).
    pub phase: Phase,
    /// The last goal that was accepted.
    pub goal: Goal,
    /// Since when the phase lasts.
    pub since: UnixMs,
}

impl State {
    /// The state of a gate that was never told anything: open, generation 0.
    pub fn initial(now: UnixMs) -> Self {
        Self {
            format: STATE_FORMAT,
            phase: Phase::Open,
            goal: Goal::new(0, Phase::Open, "first start"),
            since: now,
        }
    }

    /// The state of a gate that cannot read what it was: closed, and any goal is newer.
    pub fn unreadable(now: UnixMs) -> Self {
        let goal = Goal::new(0, Phase::Closed, "the written state could not be read");
        Self { format: STATE_FORMAT, phase: Phase::Closed, goal, since: now }
    }

    /// The same state after time moved it on to `phase`.
    pub fn moved_to(&self, phase: Phase, now: UnixMs) -> Self {
        Self { phase, since: now, ..self.clone() }
    }
}

/// Why a goal was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Refused {
    /// The generation is not newer than the gate's.
    #[error(
        "the gate holds generation {held}, the goal has {asked}: somebody else gave a goal since; \
         read the status again before asking"
    )]
    Stale {
        /// The generation that the gate holds.
        held: u64,
        /// The generation of the refused goal.
        asked: u64,
    },
    /// The phase cannot follow the present one.
    #[error("a gate that is {from} cannot become {to}: {hint}")]
    Illegal {
        /// The phase now.
        from: Phase,
        /// The phase asked for.
        to: Phase,
        /// What to do instead.
        hint: String,
    },
    /// A value in the goal is out of its bounds.
    #[error("the goal's {field} is not valid: expected {expected}, found {found:?}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is allowed.
        expected: String,
        /// What was given, shortened.
        found: String,
    },
}

/// The state that follows from `goal`. The goal that the gate already holds is accepted again and
/// changes nothing, so that whoever did not hear the answer may ask twice.
pub fn accept(state: &State, goal: &Goal, now: UnixMs) -> Result<State, Refused> {
    if *goal == state.goal {
        return Ok(state.clone());
    }
    if goal.generation <= state.goal.generation {
        return Err(Refused::Stale { held: state.goal.generation, asked: goal.generation });
    }
    goal.check()?;
    if let Some(hint) = why_not(state.phase, goal.phase) {
        return Err(Refused::Illegal { from: state.phase, to: goal.phase, hint: hint.to_owned() });
    }
    let since = if goal.phase == state.phase { state.since } else { now };
    Ok(State { format: STATE_FORMAT, phase: goal.phase, goal: goal.clone(), since })
}

/// Which phase may follow which: `None` where it may, else what to do instead. Going back to open
/// or to closed is possible from everywhere; what is refused would break a promise to players.
fn why_not(from: Phase, to: Phase) -> Option<&'static str> {
    use Phase::{Announced, Closed, Draining, Holding, Open, Reopening};
    const NOT_CLOSED: &str = "only a gate that holds or is closed reopens; ask for open";
    const FENCED: &str = "nobody is in the game; ask for reopening or open first";
    match (from, to) {
        (_, Open | Closed) => None,
        (Open | Announced | Draining, Announced | Draining | Holding) => None,
        (Reopening, Announced | Draining | Holding | Reopening) => None,
        (Holding | Closed, Holding | Reopening) => None,
        (Open | Announced | Draining, Reopening) => Some(NOT_CLOSED),
        (Holding | Closed, Announced | Draining) => Some(FENCED),
    }
}

/// What the passing of time alone does to a state: after how many milliseconds from `now`, and
/// into which phase. Computed once when a state begins or is read back, then measured with a
/// monotonic clock, so that a jump of the wall clock neither opens nor closes a game.
///
/// Open and closed last until somebody asks; reopening ends when its [`Ramp`] is done.
pub fn due(state: &State, now: UnixMs) -> Option<(u64, Phase)> {
    match state.phase {
        Phase::Announced => state.goal.closes_at.map(|at| (at.since(now), Phase::Draining)),
        Phase::Draining => {
            let deadline = match (state.goal.phase, state.goal.deadline) {
                (Phase::Draining | Phase::Announced, Some(at)) => at,
                _ => state.since + DRAINING_DEFAULT_MS,
            };
            Some((deadline.since(now), Phase::Closed))
        }
        Phase::Holding => {
            let held_ms = now.since(state.since).min(HOLDING_MAX_MS);
            let asked = state.goal.deadline.filter(|_| state.goal.phase == Phase::Holding);
            let asked_ms = asked.map_or(HOLDING_MAX_MS, |at| at.since(now));
            Some((asked_ms.min(HOLDING_MAX_MS - held_ms), Phase::Closed))
        }
        Phase::Open | Phase::Closed | Phase::Reopening => None,
    }
}

/// How much of its usual traffic a game is given at once when it opens again, in milliseconds of it.
pub const AT_ONCE_MS: u64 = 100;
/// What any game takes at once.
pub const AT_ONCE_LEAST: usize = 10;

/// How many of the `parked` may go the moment that the gate opens; the others follow at a bounded
/// rate. Requests that arrived in a tenth of a second, at the rate that the game is used to, are no
/// herd: they would have been in it together anyway. To let them go one after another would make the
/// last of a few wait as long again as the first.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn let_go_at_once(parked: usize, usual_per_s: f64) -> usize {
    // What is no number, or below zero, becomes 0; what is too large, the largest.
    let usual = (usual_per_s * AT_ONCE_MS as f64 / 1_000.0).ceil() as usize;
    parked.min(usual.max(AT_ONCE_LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_a_herd_does_not() {
        let cases = [
            (0, 200.0, 0),
            (7, 0.0, 7),
            (10, 0.0, 10),
            (1_000, 0.0, AT_ONCE_LEAST),
            (18, 200.0, 18),
            (1_000, 200.0, 20),
            (1_000, 201.0, 21),
            (1_000, 5_000.0, 500),
            (300, 5_000.0, 300),
            (1_000, f64::NAN, AT_ONCE_LEAST),
            (1_000, -3.0, AT_ONCE_LEAST),
            (1_000, f64::INFINITY, 1_000),
        ];
        for (parked, usual_per_s, expected) in cases {
            assert_eq!(let_go_at_once(parked, usual_per_s), expected, "{parked}, {usual_per_s}");
        }
    }

    const NOW: UnixMs = UnixMs(1_000_000);

    fn at(phase: Phase) -> State {
        State { phase, goal: Goal::new(7, phase, "test"), ..State::initial(NOW) }
    }

    #[test]
    fn every_pair_of_phases_is_either_legal_or_refused_with_a_hint() {
        let refused: Vec<(Phase, Phase)> = Phase::ALL
            .into_iter()
            .flat_map(|from| Phase::ALL.map(|to| (from, to)))
            .filter(|&(from, to)| match accept(&at(from), &Goal::new(8, to, "next"), NOW + 5) {
                Ok(next) => {
                    assert_eq!(next.phase, to);
                    assert_eq!(next.since, if from == to { NOW } else { NOW + 5 });
                    false
                }
                Err(Refused::Illegal { hint, .. }) => !hint.is_empty(),
                Err(other) => panic!("{from} to {to}: {other}"),
            })
            .collect();
        use Phase::{Announced, Closed, Draining, Holding, Open, Reopening};
        let expected = [
            (Open, Reopening),
            (Announced, Reopening),
            (Draining, Reopening),
            (Holding, Announced),
            (Holding, Draining),
            (Closed, Announced),
            (Closed, Draining),
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_stale_generation_is_refused_and_the_same_goal_is_accepted_again() {
        let state = at(Phase::Closed);
        let older = Goal::new(6, Phase::Open, "late runner");
        assert_eq!(accept(&state, &older, NOW), Err(Refused::Stale { held: 7, asked: 6 }));
        let other = Goal { reason: "another".into(), ..state.goal.clone() };
        assert_eq!(accept(&state, &other, NOW), Err(Refused::Stale { held: 7, asked: 7 }));
        assert_eq!(accept(&state, &state.goal.clone(), NOW + 9), Ok(state));
    }

    #[test]
    fn the_same_goal_does_not_bring_back_a_phase_that_time_ended() {
        let state = at(Phase::Announced);
        let moved = state.moved_to(Phase::Draining, NOW + 1);
        let again = accept(&moved, &state.goal, NOW + 2).unwrap();
        assert_eq!(again.phase, Phase::Draining);
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        let bad = |change: fn(&mut Goal)| {
            let mut goal = Goal::new(8, Phase::Closed, "release");
            change(&mut goal);
            match accept(&at(Phase::Open), &goal, NOW) {
                Err(Refused::Invalid { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(bad(|g| g.progress = Some(101)), "progress");
        assert_eq!(bad(|g| g.notes_url = Some("javascript:alert(1)".into())), "notes_url");
        assert_eq!(bad(|g| g.notes_url = Some("//elsewhere.example/".into())), "notes_url");
        assert_eq!(bad(|g| g.version = Some("1\r\nX: y".into())), "version");
        assert_eq!(bad(|g| drop(g.message.insert("<b>".into(), "x".into()))), "message");
        assert_eq!(bad(|g| drop(g.message.insert("en".into(), "x".repeat(2_001)))), "message");
        assert_eq!(bad(|g| g.reason = "x".repeat(2_001)), "reason");
    }

    #[test]
    fn time_drains_an_announced_gate_and_closes_a_drained_or_holding_one_but_opens_none() {
        let mut announced = at(Phase::Announced);
        assert_eq!(due(&announced, NOW), None);
        announced.goal.closes_at = Some(NOW + 400);
        assert_eq!(due(&announced, NOW), Some((400, Phase::Draining)));
        assert_eq!(due(&announced, NOW + 900), Some((0, Phase::Draining)));

        let mut draining = at(Phase::Draining);
        assert_eq!(due(&draining, NOW), Some((DRAINING_DEFAULT_MS, Phase::Closed)));
        draining.goal.deadline = Some(NOW + 50);
        assert_eq!(due(&draining, NOW), Some((50, Phase::Closed)));

        assert_eq!(due(&at(Phase::Holding), NOW + 10_000), Some((20_000, Phase::Closed)));
        let mut bounded = at(Phase::Holding);
        bounded.goal.deadline = Some(NOW + 3_000);
        assert_eq!(due(&bounded, NOW + 1_000), Some((2_000, Phase::Closed)));
        bounded.goal.deadline = Some(NOW + 300_000);
        assert_eq!(due(&bounded, NOW), Some((HOLDING_MAX_MS, Phase::Closed)));
        for phase in [Phase::Open, Phase::Closed, Phase::Reopening] {
            assert_eq!(due(&at(phase), NOW), None);
        }
    }

    #[test]
    fn a_clock_set_back_never_holds_longer_than_the_limit() {
        assert_eq!(due(&at(Phase::Holding), NOW - 500_000), Some((HOLDING_MAX_MS, Phase::Closed)));
    }

    #[test]
    fn a_state_survives_its_text_form_and_an_unknown_key_is_refused() {
        let state = at(Phase::Draining);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert!(
            serde_json::from_str::<State>(&text.replacen("\"since\"", "\"sinse\"", 1)).is_err()
        );
    }
}
