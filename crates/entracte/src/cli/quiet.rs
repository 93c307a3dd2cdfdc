//! The quietest hour: when a closing costs the fewest players.

use entracte_model::UnixMs;
use entracte_model::plan::Plan;
use entracte_model::quiet::{Constraints, HourCount, cheapest};
use entracte_release::clock::now;
use entracte_release::{Target, front};

use crate::exit::Failure;

/// How far ahead the quietest hour is looked for, in milliseconds.
const HORIZON_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// The start that costs the fewest players within a week.
pub fn quietest(target: &Target, plan: &Plan) -> Result<UnixMs, Failure> {
    let gate = front::driver(target);
    let hours = gate.hours().map_err(super::front::failed)?;
    if !gate.capabilities().measures {
        return Err(Failure::refused(format!(
            "{} does not count players, so nobody knows the quietest hour",
            gate.kind()
        ))
        .hint("name a time: --at 2026-12-01T04:30"));
    }
    let counts: Vec<HourCount> =
        hours.iter().map(|hour| HourCount { at: hour.from, players: hour.sessions }).collect();
    let constraints = Constraints {
        notice_ms: target.pace.notice_ms,
        watch_ms: target.pace.watch_ms,
        ..Constraints::default()
    };
    let choices = cheapest(&counts, now(), HORIZON_MS, plan.closed.p90_ms, &constraints);
    let best = choices.first().ok_or_else(|| {
        Failure::refused("the gate has not seen a whole day of players yet")
            .hint("name a time: --at 2026-12-01T04:30")
    })?;
    crate::report::out::note(format!(
        "quietest: {}, about {:.1} players, {:.0} % of an average hour",
        crate::report::local(best.start),
        best.expected_players,
        best.share_of_average * 100.0
    ));
    Ok(best.start)
}
