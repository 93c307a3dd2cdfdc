//! What earlier releases took, for predictions and for `entracte history`.

use std::collections::BTreeMap;

use entracte_model::UnixMs;
use entracte_model::journal::{Entry, Event};
use entracte_model::plan::{Plan, Range, StepId};

use crate::store::{Store, StoreError};

/// How many earlier releases a prediction looks at: the game of a year ago is another game.
const LOOKED_AT_MAX: u32 = 12;

/// How long one step of a past release took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Took {
    /// Which step.
    pub step: StepId,
    /// When it began.
    pub began: UnixMs,
    /// How long until its effect was there, in milliseconds.
    pub ms: u64,
}

/// The durations of all steps that were done, in order.
pub fn durations(log: &[Entry]) -> Vec<Took> {
    let mut began: BTreeMap<StepId, UnixMs> = BTreeMap::new();
    let mut took = Vec::new();
    for entry in log {
        match &entry.event {
            Event::Started { step, .. } => {
                began.insert(*step, entry.at);
            }
            Event::Done { step, .. } => {
                if let Some(at) = began.get(step) {
                    took.push(Took { step: *step, began: *at, ms: entry.at.since(*at) });
                }
            }
            _ => {}
        }
    }
    took
}

/// How long the game was closed to players, in milliseconds, if it was and opened again.
///
/// Counted from the gate's closing to its opening, also where the release was taken back.
pub fn closed_ms(plan: &Plan, log: &[Entry]) -> Option<u64> {
    let close = plan.closing()?;
    let reopen = plan.reopening()?;
    let closed = log.iter().find_map(|entry| match &entry.event {
        Event::Started { step, .. } if *step == close => Some(entry.at),
        _ => None,
    })?;
    let opened = log.iter().find_map(|entry| match &entry.event {
        Event::Done { step, .. } if *step == reopen => Some(entry.at),
        Event::Undone { step } if *step == close => Some(entry.at),
        _ => None,
    })?;
    Some(opened.since(closed))
}

/// The durations of each step in past releases, by the step's name, in milliseconds.
pub fn past(store: &Store) -> Result<BTreeMap<&'static str, Vec<u64>>, StoreError> {
    let mut by_name: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    for release in store.releases(LOOKED_AT_MAX)? {
        for took in durations(&store.entries(release.id, 0)?) {
            if let Some(step) = release.plan.step(took.step) {
                by_name.entry(step.name()).or_default().push(took.ms);
            }
        }
    }
    Ok(by_name)
}

/// The median and the ninth decile of some durations (nearest rank).
pub fn range(durations: &[u64]) -> Option<Range> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let rank = |percent: usize| {
        let place = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(place - 1).copied()
    };
    Some(Range { p50_ms: rank(50)?, p90_ms: rank(90)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        assert_eq!(range(&[]), None);
        assert_eq!(range(&[7]), Some(Range { p50_ms: 7, p90_ms: 7 }));
        let ten: Vec<u64> = (1..=10).rev().collect();
        assert_eq!(range(&ten), Some(Range { p50_ms: 5, p90_ms: 9 }));
    }
}
