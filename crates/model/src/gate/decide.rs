//! What one request gets.

use super::{LoginRule, Phase, State};
use crate::UnixMs;

/// The paths that the gate answers itself, whatever its state.
pub const OWN_PREFIX: &str = "/_entracte/";

/// The least that a refused client is asked to wait, in seconds.
const RETRY_LEAST_S: u64 = 5;
/// What a refused client is asked to wait where no end is known, in seconds.
const RETRY_UNKNOWN_S: u64 = 30;
/// What a refused client is asked to wait after a promised end has passed, in seconds.
const RETRY_LATE_S: u64 = 15;
/// The longest wait that is asked for, in seconds: an end may come early.
const RETRY_MOST_S: u64 = 900;

/// What is known of a request when the gate decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The method, in capitals as sent.
    pub method: &'a str,
    /// The path; a query may follow.
    pub path: &'a str,
    /// Carries a ticket that the gate gave.
    pub has_ticket: bool,
    /// Carries a session cookie that was seen while the gate was open.
    pub has_session_cookie: bool,
    /// Carries a valid tester's pass.
    pub is_tester: bool,
    /// Asks for another protocol (a WebSocket).
    pub is_upgrade: bool,
    /// Is one of the configured health paths.
    pub is_health: bool,
}

impl Facts<'_> {
    /// True for a player who was in before.
    pub fn is_in(&self) -> bool {
        self.has_ticket || self.has_session_cookie
    }
}

/// Which page (or problem document) answers in the game's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// The game is closed.
    Closed,
    /// The game is about to close; nobody new comes in.
    LoginClosed,
    /// The game just reopened; newcomers come in one after another.
    WaitingRoom,
}

/// What the gate does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The gate answers: one of its own paths.
    Own,
    /// The gate answers a health check in the game's place.
    Healthy,
    /// On to the game.
    Pass {
        /// Players may be given a ticket with the answer.
        ticket: bool,
    },
    /// On to the game, as a tester: outside all counts.
    PassTester,
    /// Waits inside the gate.
    Park,
    /// A newcomer: on to the game when the ramp has a place, else [`PageKind::WaitingRoom`].
    Pace,
    /// Answered with a page.
    Page(PageKind),
}

/// What `facts` gets in `state`. Total: every request gets an answer in every state.
pub fn decide(state: &State, login: &[LoginRule], facts: &Facts<'_>) -> Action {
    if facts.path.starts_with(OWN_PREFIX) {
        return Action::Own;
    }
    if facts.is_tester {
        return Action::PassTester;
    }
    match state.phase {
        Phase::Open | Phase::Announced => Action::Pass { ticket: true },
        Phase::Draining => {
            let logs_in = login.iter().any(|rule| rule.matches(facts.method, facts.path));
            match (facts.is_health, facts.is_in(), logs_in) {
                (true, _, _) | (false, true, false) => Action::Pass { ticket: false },
                (false, _, true) | (false, false, false) => Action::Page(PageKind::LoginClosed),
            }
        }
        // A load balancer that thinks the game dead would show its own bare error instead.
        Phase::Holding | Phase::Closed if facts.is_health => Action::Healthy,
        Phase::Holding if facts.is_upgrade => Action::Page(PageKind::Closed),
        Phase::Holding => Action::Park,
        Phase::Closed => Action::Page(PageKind::Closed),
        Phase::Reopening if facts.is_health || facts.is_in() => Action::Pass { ticket: true },
        Phase::Reopening => Action::Pace,
    }
}

/// What a refused client is asked to wait, in seconds: what remains until the promised end, at
/// least 5, plus up to a fifth more by `jitter01` (0 to 1), so that not all come back at once.
pub fn retry_after_s(state: &State, now: UnixMs, jitter01: f64) -> u64 {
    let end = state.goal.reopens_p50.into_iter().chain(state.goal.reopens_p90).find(|at| *at > now);
    let promised = state.goal.reopens_p50.is_some() || state.goal.reopens_p90.is_some();
    let base_s = match (end, promised) {
        (Some(at), _) => at.since(now).div_ceil(1_000),
        (None, true) => RETRY_LATE_S,
        (None, false) => RETRY_UNKNOWN_S,
    };
    let base_s = base_s.clamp(RETRY_LEAST_S, RETRY_MOST_S);
    base_s + extra_s(base_s, jitter01)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn extra_s(base_s: u64, jitter01: f64) -> u64 {
    // `base_s` is at most 900 and the factor at most 0.2: exact, and never negative.
    (base_s as f64 * 0.2 * jitter01.clamp(0.0, 1.0)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Goal;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn state(phase: Phase) -> State {
        State { phase, ..State::initial(NOW) }
    }

    fn request(method: &'static str, path: &'static str) -> Facts<'static> {
        Facts {
            method,
            path,
            has_ticket: false,
            has_session_cookie: false,
            is_tester: false,
            is_upgrade: false,
            is_health: false,
        }
    }

    fn rules() -> Vec<LoginRule> {
        vec!["POST /login.php".parse().unwrap()]
    }

    #[test]
    fn each_phase_treats_players_newcomers_logins_and_upgrades_as_the_table_says() {
        use Action::{Pace, Page, Park, Pass};
        use PageKind::{Closed, LoginClosed};
        let new = request("GET", "/");
        let player = Facts { has_ticket: true, ..new };
        let login = Facts { has_session_cookie: true, ..request("POST", "/login.php") };
        let socket = Facts { is_upgrade: true, ..new };
        let (give, keep) = (Pass { ticket: true }, Pass { ticket: false });
        let table = [
            (Phase::Open, [give, give, give, give]),
            (Phase::Announced, [give, give, give, give]),
            (Phase::Draining, [keep, Page(LoginClosed), Page(LoginClosed), Page(LoginClosed)]),
            (Phase::Holding, [Park, Park, Park, Page(Closed)]),
            (Phase::Closed, [Page(Closed), Page(Closed), Page(Closed), Page(Closed)]),
            (Phase::Reopening, [give, Pace, give, Pace]),
        ];
        for (phase, expected) in table {
            let seen =
                [player, new, login, socket].map(|facts| decide(&state(phase), &rules(), &facts));
            assert_eq!(seen, expected, "{phase}");
        }
    }

    #[test]
    fn a_player_who_is_in_keeps_a_websocket_while_draining() {
        let facts = Facts { has_ticket: true, is_upgrade: true, ..request("GET", "/live") };
        assert_eq!(
            decide(&state(Phase::Draining), &rules(), &facts),
            Action::Pass { ticket: false }
        );
    }

    #[test]
    fn health_checks_never_see_a_closed_door() {
        for phase in Phase::ALL {
            let facts = Facts { is_health: true, ..request("GET", "/health") };
            let seen = decide(&state(phase), &[], &facts);
            assert!(matches!(seen, Action::Healthy | Action::Pass { .. }), "{phase}: {seen:?}");
            assert_eq!(seen == Action::Healthy, phase.is_fenced());
        }
    }

    #[test]
    fn the_wait_is_what_remains_at_least_five_seconds_and_a_fifth_more_at_most() {
        let mut closed = state(Phase::Closed);
        assert_eq!(retry_after_s(&closed, NOW, 0.0), 30);
        closed.goal = Goal {
            reopens_p50: Some(NOW + 100_000),
            reopens_p90: Some(NOW + 200_000),
            ..closed.goal
        };
        assert_eq!(retry_after_s(&closed, NOW, 0.0), 100);
        assert_eq!(retry_after_s(&closed, NOW, 1.0), 120);
        assert_eq!(retry_after_s(&closed, NOW + 98_000, 0.0), 5);
        assert_eq!(retry_after_s(&closed, NOW + 150_000, 0.0), 50);
        assert_eq!(retry_after_s(&closed, NOW + 250_000, 0.0), 15);
        closed.goal.reopens_p50 = Some(NOW + 86_400_000);
        assert_eq!(retry_after_s(&closed, NOW, 0.0), 900);
    }

    proptest! {
        #[test]
        fn a_fenced_gate_lets_nobody_through_but_testers(
            method in "[A-Z]{3,7}", path in "/[ -~]{0,40}", bits in 0u8..32, holding: bool,
        ) {
            let facts = Facts {
                method: &method,
                path: &path,
                has_ticket: bits & 1 != 0,
                has_session_cookie: bits & 2 != 0,
                is_tester: bits & 4 != 0,
                is_upgrade: bits & 8 != 0,
                is_health: bits & 16 != 0,
            };
            let phase = if holding { Phase::Holding } else { Phase::Closed };
            match decide(&state(phase), &rules(), &facts) {
                Action::Pass { .. } | Action::Pace => prop_assert!(false, "{facts:?} passed"),
                Action::PassTester => prop_assert!(facts.is_tester),
                Action::Own | Action::Healthy | Action::Park | Action::Page(_) => {}
            }
        }

        #[test]
        fn the_wait_has_bounds(p50 in proptest::option::of(any::<i64>()), jitter in any::<f64>(), now in any::<i64>()) {
            let mut closed = state(Phase::Closed);
            closed.goal.reopens_p50 = p50.map(UnixMs);
            let wait = retry_after_s(&closed, UnixMs(now), jitter);
            prop_assert!((5..=1080).contains(&wait), "{wait}");
        }
    }
}
