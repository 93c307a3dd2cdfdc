//! What players remember, and what can be read from it.

/// One request of one player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of the player, from 0.
    pub player: usize,
    /// The id of the request; empty where it only read.
    pub id: String,
    /// What it was: a page's name or an action's.
    pub kind: &'static str,
    /// The status of the answer, 0 without one.
    pub status: u16,
    /// What came of it.
    pub outcome: Outcome,
    /// When the answer was there, in milliseconds of Unix time.
    pub at_ms: u64,
    /// From sending to the end of the answer, in microseconds.
    pub latency_us: u64,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered as asked. For an action: the game says that it is committed.
    Ok,
    /// The rules of the game did not allow it.
    Refused,
    /// A page with status 503: the game is closed, and says so.
    Page,
    /// The game does not know the player's session.
    LoggedOut,
    /// Status 200 and the text of a PHP error.
    Broken(String),
    /// No answer, or one that no player understands.
    Error(String),
}

impl Outcome {
    pub(super) const KINDS: usize = 6;

    pub(super) fn index(&self) -> usize {
        match self {
            Outcome::Ok => 0,
            Outcome::Refused => 1,
            Outcome::Page => 2,
            Outcome::LoggedOut => 3,
            Outcome::Broken(_) => 4,
            Outcome::Error(_) => 5,
        }
    }

    /// Whether the game itself answered, in good order.
    pub fn is_played(&self) -> bool {
        match self {
            Outcome::Ok | Outcome::Refused => true,
            Outcome::Page | Outcome::LoggedOut | Outcome::Broken(_) | Outcome::Error(_) => false,
        }
    }
}

/// What all players of a load remember, in the order of the answers.
#[derive(Debug, Clone)]
pub struct Played {
    /// The ids of the actions that were answered "ok".
    pub oks: Vec<String>,
    /// Everything.
    pub records: Vec<Record>,
    /// Answers beyond [`super::RECORDS_MAX`], which were not kept.
    pub forgotten: u64,
    /// How long requests took that the game itself answered.
    pub latencies: Latencies,
    /// The longest time without an answer of the game to anybody, in milliseconds: what players
    /// would call "it was down for so long".
    pub longest_gap_ms: u64,
    /// From the last answer of the game before the first closed page to the first one after the
    /// last such page, in milliseconds. None where nobody saw a page.
    pub closed_ms: Option<u64>,
}

impl Played {
    pub(super) fn new(mut records: Vec<Record>, forgotten: u64) -> Self {
        records.sort_by_key(|record| record.at_ms);
        let played: Vec<&Record> =
            records.iter().filter(|record| record.outcome.is_played()).collect();
        Self {
            oks: records
                .iter()
                .filter(|record| record.outcome == Outcome::Ok && !record.id.is_empty())
                .map(|record| record.id.clone())
                .collect(),
            latencies: Latencies::new(played.iter().map(|record| record.latency_us).collect()),
            longest_gap_ms: played
                .windows(2)
                .map(|pair| pair[1].at_ms - pair[0].at_ms)
                .max()
                .unwrap_or(0),
            closed_ms: closed_ms(&records),
            forgotten,
            records,
        }
    }

    /// The records with an outcome that `wanted` picks.
    pub fn with(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<&Record> {
        self.records.iter().filter(|record| wanted(&record.outcome)).collect()
    }

    /// Requests that were lost: not answered, or answered by an error.
    pub fn lost(&self) -> Vec<&Record> {
        self.with(|outcome| matches!(outcome, Outcome::Broken(_) | Outcome::Error(_)))
    }

    /// Closed pages that were seen.
    pub fn pages(&self) -> usize {
        self.with(|outcome| *outcome == Outcome::Page).len()
    }
}

fn closed_ms(records: &[Record]) -> Option<u64> {
    let is_page = |record: &Record| record.outcome == Outcome::Page;
    let first = records.iter().position(is_page)?;
    let last = records.iter().rposition(is_page)?;
    let is_played = |record: &&Record| record.outcome.is_played();
    let from = records[..first].iter().rfind(is_played).unwrap_or(&records[first]);
    let to = records[last..].iter().find(is_played).unwrap_or(&records[records.len() - 1]);
    Some(to.at_ms - from.at_ms)
}

/// How long requests took, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latencies {
    sorted_us: Vec<u64>,
}

impl Latencies {
    fn new(mut all_us: Vec<u64>) -> Self {
        all_us.sort_unstable();
        Self { sorted_us: all_us }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted_us.len()
    }

    /// The time, in microseconds, that at least `percent` of the requests did not exceed (nearest
    /// rank). 0 where there was no request.
    pub fn percentile_us(&self, percent: u8) -> u64 {
        let rank = (self.sorted_us.len() * usize::from(percent.min(100))).div_ceil(100);
        self.sorted_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The longest time in microseconds.
    pub fn max_us(&self) -> u64 {
        self.percentile_us(100)
    }

    /// Requests by time, in bins that double: (at most so many microseconds, requests).
    pub fn histogram(&self) -> Vec<(u64, usize)> {
        let mut bins: Vec<(u64, usize)> = Vec::new();
        for us in &self.sorted_us {
            let upper = us.max(&1).next_power_of_two();
            match bins.last_mut() {
                Some((last, count)) if *last == upper => *count += 1,
                _ => bins.push((upper, 1)),
            }
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_ms: u64, outcome: Outcome) -> Record {
        Record {
            player: 0,
            id: format!("id-{at_ms}"),
            kind: "work",
            status: 200,
            outcome,
            at_ms,
            latency_us: at_ms,
        }
    }

    #[test]
    fn the_closed_time_is_from_the_last_answer_before_to_the_first_after() {
        let played = Played::new(
            vec![
                record(900, Outcome::Ok),
                record(100, Outcome::Ok),
                record(200, Outcome::Refused),
                record(300, Outcome::Page),
                record(500, Outcome::Error("cut".into())),
                record(600, Outcome::Page),
                record(1000, Outcome::Ok),
            ],
            0,
        );
        assert_eq!(played.closed_ms, Some(700));
        assert_eq!(played.longest_gap_ms, 700);
        assert_eq!(played.oks, ["id-100", "id-900", "id-1000"]);
        assert_eq!((played.lost().len(), played.pages()), (1, 2));
    }

    #[test]
    fn a_game_that_never_closed_has_no_closed_time() {
        let played = Played::new(vec![record(100, Outcome::Ok), record(400, Outcome::Ok)], 0);
        assert_eq!((played.closed_ms, played.longest_gap_ms), (None, 300));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latencies = Latencies::new(vec![40, 10, 30, 20]);
        assert_eq!([50, 75, 99, 100].map(|p| latencies.percentile_us(p)), [20, 30, 40, 40]);
        assert_eq!(Latencies::default().max_us(), 0);
        assert_eq!(latencies.histogram(), [(16, 1), (32, 2), (64, 1)]);
    }
}
