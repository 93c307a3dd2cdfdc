//! The quiet hour: when a closing meets the fewest players.
//!
//! From hourly counts of distinct players over up to eight weeks comes the median of each hour of
//! the week, smoothed with its neighbours and scaled to the level of the last week. The cost of a
//! closing is the sum over the hours that it touches of the players expected in each, by the part
//! of the hour that it takes. Hours are those of UTC, moved by an offset that the caller chooses:
//! players live by their clock, so with it a change to summer time can be followed.

use serde::{Deserialize, Serialize};

use crate::UnixMs;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;
const WEEK_HOURS: usize = 168;
const DAY_HOURS: usize = 24;
/// Counts older than this are left out: a game changes.
pub const HISTORY_MS_MAX: u64 = 8 * WEEK_MS;
/// Hours of counts below which nothing is said: a day must have been seen whole.
pub const HOURS_MIN: usize = DAY_HOURS;
/// How far ahead starts are looked for, whatever the caller asks.
pub const HORIZON_MS_MAX: u64 = 2 * WEEK_MS;
/// Starts are looked for at every multiple of this.
pub const STEP_MS: u64 = 15 * 60_000;
/// The most choices that are given.
pub const CHOICES_MAX: usize = 10;
/// Two choices are at least this far apart: a quarter of an hour later is no other choice.
pub const CHOICES_APART_MS: u64 = HOUR_MS;
/// How far the level of the last week may move the medians, either way.
const SCALE_MAX: f64 = 10.0;
/// The epoch was a Thursday: three days after the Monday that weeks begin with here.
const EPOCH_AFTER_MONDAY_MS: u64 = 3 * DAY_MS;

/// Distinct players within one hour. Hours without any are counts as well, of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourCount {
    /// Any moment of the hour.
    pub at: UnixMs,
    /// How many.
    pub players: u64,
}

/// Part of every week, in minutes from Monday 00:00 of the moved clock; it may go over the week's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeekSpan {
    /// Its first minute.
    pub from_min: u32,
    /// The minute at which it is over.
    pub to_min: u32,
}

/// A time that is taken, such as by a cron of the game's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// When it begins.
    pub from: UnixMs,
    /// When it is over.
    pub to: UnixMs,
}

/// What a start has to respect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// How long before it the players have to be told.
    pub notice_ms: u64,
    /// How long after the reopening somebody has to be there.
    pub watch_ms: u64,
    /// When somebody is there, from the start to the end of the watch; empty means always.
    pub staff: Vec<WeekSpan>,
    /// Times that the closing must not touch.
    pub busy: Vec<Busy>,
    /// What is added to UTC to have the clock that players and staff live by.
    pub utc_offset_ms: i64,
}

/// A start, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// When the closing would begin.
    pub start: UnixMs,
    /// The players whom it would meet.
    pub expected_players: f64,
    /// Their number as a part of what the same closing costs at an average moment of the week.
    pub share_of_average: f64,
}

/// The cheapest starts for a closing of `closed_ms`, cheapest first, within `horizon_ms` from `now`
/// and [`CHOICES_MAX`] at most. None where there is less than a day of counts, or where nothing
/// meets the constraints.
pub fn cheapest(
    counts: &[HourCount],
    now: UnixMs,
    horizon_ms: u64,
    closed_ms: u64,
    constraints: &Constraints,
) -> Vec<Choice> {
    let Some(levels) = levels(counts, now, constraints.utc_offset_ms) else { return Vec::new() };
    // A closing of no time at all still takes a moment; without one every hour would cost nothing.
    let closed_ms = closed_ms.clamp(1, WEEK_MS);
    let average = levels.iter().sum::<f64>() / float(WEEK_HOURS) * hours(closed_ms);
    let mut all: Vec<Choice> = starts(now, horizon_ms, constraints.notice_ms)
        .filter(|start| allowed(*start, closed_ms, constraints))
        .map(|start| {
            let expected_players = cost(&levels, start, closed_ms, constraints.utc_offset_ms);
            let share_of_average = if average > 0.0 { expected_players / average } else { 1.0 };
            Choice { start, expected_players, share_of_average }
        })
        .collect();
    all.sort_by(|a, b| {
        a.expected_players.total_cmp(&b.expected_players).then(a.start.cmp(&b.start))
    });
    apart(&all)
}

/// The cheapest of `sorted` that are not too close to a cheaper one.
fn apart(sorted: &[Choice]) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for choice in sorted {
        let near = |other: &Choice| {
            let distance = choice.start.since(other.start).max(other.start.since(choice.start));
            distance < CHOICES_APART_MS
        };
        if !kept.iter().any(near) {
            kept.push(*choice);
            if kept.len() == CHOICES_MAX {
                break;
            }
        }
    }
    kept
}

/// Every multiple of [`STEP_MS`] from the end of the notice to the horizon.
fn starts(now: UnixMs, horizon_ms: u64, notice_ms: u64) -> impl Iterator<Item = UnixMs> {
    let last = now + horizon_ms.min(HORIZON_MS_MAX);
    let earliest = now + notice_ms;
    let past =
        u64::try_from(earliest.0.rem_euclid(i64::try_from(STEP_MS).unwrap_or(1))).unwrap_or(0);
    let first = if past == 0 { earliest } else { earliest + (STEP_MS - past) };
    std::iter::successors(Some(first), |start| Some(*start + STEP_MS))
        .take_while(move |start| *start <= last)
}

fn allowed(start: UnixMs, closed_ms: u64, constraints: &Constraints) -> bool {
    let reopened = start + closed_ms;
    let free = !constraints.busy.iter().any(|busy| busy.from < reopened && start < busy.to);
    let from = in_week(start, constraints.utc_offset_ms);
    let long = closed_ms.saturating_add(constraints.watch_ms);
    free && (constraints.staff.is_empty() || staffed(from, long, &constraints.staff))
}

/// Whether the spans, one after the other, cover `long` from `from` (both within the week) on.
fn staffed(from: u64, long: u64, staff: &[WeekSpan]) -> bool {
    let mut at = from;
    let mut left = long;
    // Each round goes to the end of some span; covering a week takes no more than all of them, and
    // one of them twice.
    for _ in 0..=staff.len() + 1 {
        let reach = staff.iter().map(|span| covered(at, *span)).max().unwrap_or(0);
        if reach >= left {
            return true;
        }
        if reach == 0 {
            return false;
        }
        left -= reach;
        at = (at + reach) % WEEK_MS;
        // Once around the week without a gap: there is none in any later week either.
        if long - left >= WEEK_MS {
            return true;
        }
    }
    false
}

/// How long `span` goes on from `at`; 0 where `at` is outside.
fn covered(at: u64, span: WeekSpan) -> u64 {
    let minute = |min: u32| u64::from(min) * 60_000;
    let (from, to) = (minute(span.from_min) % WEEK_MS, minute(span.to_min));
    let length = (to % WEEK_MS + WEEK_MS - from) % WEEK_MS;
    // From an hour to the same hour is the whole week, as in "Monday 0:00 to Monday 0:00".
    let length = if length == 0 && span.from_min != span.to_min { WEEK_MS } else { length };
    let into = (at + WEEK_MS - from) % WEEK_MS;
    length.saturating_sub(into)
}

/// Milliseconds since the Monday 00:00 before `at`, on the moved clock.
fn in_week(at: UnixMs, utc_offset_ms: i64) -> u64 {
    let week = i64::try_from(WEEK_MS).unwrap_or(i64::MAX);
    let since_monday = i64::try_from(EPOCH_AFTER_MONDAY_MS).unwrap_or(0);
    let moved = at.0.rem_euclid(week) + utc_offset_ms.rem_euclid(week) + since_monday;
    u64::try_from(moved.rem_euclid(week)).unwrap_or(0)
}

fn hour_of_week(at: UnixMs, utc_offset_ms: i64) -> usize {
    usize::try_from(in_week(at, utc_offset_ms) / HOUR_MS).unwrap_or(0) % WEEK_HOURS
}

/// The players expected in each hour of the week.
fn levels(counts: &[HourCount], now: UnixMs, utc_offset_ms: i64) -> Option<Vec<f64>> {
    let recent: Vec<&HourCount> =
        counts.iter().filter(|one| one.at <= now && now.since(one.at) <= HISTORY_MS_MAX).collect();
    if recent.len() < HOURS_MIN {
        return None;
    }
    let mut by_hour: Vec<Vec<u64>> = vec![Vec::new(); WEEK_HOURS];
    for one in &recent {
        by_hour[hour_of_week(one.at, utc_offset_ms)].push(one.players);
    }
    let overall = median(recent.iter().map(|one| one.players).collect()).unwrap_or(0.0);
    let medians: Vec<f64> = (0..WEEK_HOURS)
        .map(|hour| {
            median(by_hour[hour].clone())
                .or_else(|| same_hour_of_other_days(&by_hour, hour))
                .unwrap_or(overall)
        })
        .collect();
    let smooth = smoothed(&medians);
    let scale = scale(&recent, now, &smooth, utc_offset_ms);
    Some(smooth.into_iter().map(|level| level * scale).collect())
}

/// An hour of the week that was never seen is taken as the same hour of the other days.
fn same_hour_of_other_days(by_hour: &[Vec<u64>], hour: usize) -> Option<f64> {
    let same =
        by_hour.iter().enumerate().filter(|(other, _)| other % DAY_HOURS == hour % DAY_HOURS);
    median(same.flat_map(|(_, players)| players.iter().copied()).collect())
}

fn median(mut values: Vec<u64>) -> Option<f64> {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(count(values[middle])),
        _ => Some(f64::midpoint(count(values[middle - 1]), count(values[middle]))),
    }
}

/// Half of each hour, a quarter of each neighbour; the week is a ring.
fn smoothed(levels: &[f64]) -> Vec<f64> {
    let n = levels.len();
    (0..n)
        .map(|at| levels[at] / 2.0 + (levels[(at + n - 1) % n] + levels[(at + 1) % n]) / 4.0)
        .collect()
}

/// What the last week had, as a multiple of what `levels` expects for its hours.
fn scale(recent: &[&HourCount], now: UnixMs, levels: &[f64], utc_offset_ms: i64) -> f64 {
    let last = recent.iter().filter(|one| now.since(one.at) <= WEEK_MS);
    let (seen, expected) = last.fold((0.0, 0.0), |(seen, expected), one| {
        (seen + count(one.players), expected + levels[hour_of_week(one.at, utc_offset_ms)])
    });
    if expected > 0.0 { (seen / expected).clamp(1.0 / SCALE_MAX, SCALE_MAX) } else { 1.0 }
}

fn cost(levels: &[f64], start: UnixMs, closed_ms: u64, utc_offset_ms: i64) -> f64 {
    let mut at = in_week(start, utc_offset_ms);
    let mut left = closed_ms;
    let mut players = 0.0;
    // At most a week, so at most one hour more than a week has.
    while left > 0 {
        let step = (HOUR_MS - at % HOUR_MS).min(left);
        let hour = usize::try_from(at / HOUR_MS).unwrap_or(0) % WEEK_HOURS;
        players += levels[hour] * hours(step);
        left -= step;
        at = (at + step) % WEEK_MS;
    }
    players
}

fn hours(ms: u64) -> f64 {
    count(ms) / count(HOUR_MS)
}

fn count(value: u64) -> f64 {
    value as f64
}

fn float(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-23 00:00 UTC.
    const MONDAY: UnixMs = UnixMs(1_795_392_000_000);

    /// Counts of `weeks` weeks before [`MONDAY`], from the hour of the week (0 to 167).
    fn weeks(weeks: u64, players: impl Fn(u64, u64) -> u64) -> Vec<HourCount> {
        let hours = weeks * 168;
        (0..hours)
            .map(|n| HourCount {
                at: MONDAY - (hours - n) * HOUR_MS,
                players: players(n / 168, n % 168),
            })
            .collect()
    }

    /// Quiet around 04:00 of each day, quietest on Wednesday.
    fn usual(_week: u64, hour: u64) -> u64 {
        let distance = (hour % 24).abs_diff(4);
        20 + 15 * distance.min(24 - distance) + if hour / 24 == 2 { 0 } else { 10 }
    }

    fn hour(start: UnixMs) -> (u64, u64) {
        let since = start.since(MONDAY);
        (since / DAY_MS, since % DAY_MS / HOUR_MS)
    }

    const CLOSED: u64 = 10 * 60_000;

    #[test]
    fn the_quietest_hour_of_the_week_comes_first_and_its_price_is_told() {
        let found = cheapest(&weeks(8, usual), MONDAY, WEEK_MS, CLOSED, &Constraints::default());
        assert_eq!(hour(found[0].start), (2, 4));
        assert_eq!(found.len(), CHOICES_MAX);
        // Smoothed: half of 20 and a quarter each of 35 and 35, for a sixth of an hour.
        assert!((found[0].expected_players - 27.5 / 6.0).abs() < 1e-9, "{:?}", found[0]);
        let average = (0..168).map(|hour| usual(0, hour)).sum::<u64>() as f64 / 168.0;
        assert!((found[0].share_of_average - 27.5 / average).abs() < 1e-9, "{:?}", found[0]);
        assert!(found.windows(2).all(|pair| pair[0].expected_players <= pair[1].expected_players));
        for (at, one) in found.iter().enumerate() {
            for other in &found[at + 1..] {
                let apart = one.start.since(other.start).max(other.start.since(one.start));
                assert!(apart >= CHOICES_APART_MS);
            }
        }
    }

    #[test]
    fn one_strange_week_moves_nothing_but_the_level_follows_the_last_one() {
        let festival = |week: u64, hour: u64| if week == 3 { 5_000 } else { usual(week, hour) };
        let calm = cheapest(&weeks(8, usual), MONDAY, WEEK_MS, CLOSED, &Constraints::default());
        assert_eq!(
            cheapest(&weeks(8, festival), MONDAY, WEEK_MS, CLOSED, &Constraints::default()),
            calm
        );
        let grown = |week: u64, hour: u64| usual(week, hour) * if week == 7 { 2 } else { 1 };
        let grown = cheapest(&weeks(8, grown), MONDAY, WEEK_MS, CLOSED, &Constraints::default());
        assert_eq!(grown[0].start, calm[0].start);
        assert!((grown[0].expected_players / calm[0].expected_players - 2.0).abs() < 1e-9);
        assert!((grown[0].share_of_average - calm[0].share_of_average).abs() < 1e-9);
    }

    #[test]
    fn counts_older_than_eight_weeks_or_from_the_future_are_left_out() {
        let reversed = |week: u64, hour: u64| {
            if week < 10 { 300 - usual(week, hour) } else { usual(week, hour) }
        };
        let mut counts = weeks(18, reversed);
        counts.extend((0..500).map(|n| HourCount { at: MONDAY + (n + 1) * HOUR_MS, players: 0 }));
        let found = cheapest(&counts, MONDAY, WEEK_MS, CLOSED, &Constraints::default());
        assert_eq!(
            found,
            cheapest(&weeks(8, usual), MONDAY, WEEK_MS, CLOSED, &Constraints::default())
        );
    }

    #[test]
    fn staff_has_to_be_there_until_the_watch_is_over() {
        let office = (0..5)
            .map(|day| WeekSpan { from_min: day * 1_440 + 540, to_min: day * 1_440 + 1_020 })
            .collect();
        let constraints =
            Constraints { watch_ms: HOUR_MS, staff: office, ..Constraints::default() };
        let found = cheapest(&weeks(8, usual), MONDAY, WEEK_MS, CLOSED, &constraints);
        assert_eq!(hour(found[0].start), (2, 9));
        for choice in &found {
            let (day, from) = hour(choice.start);
            assert!(day < 5 && from >= 9, "{choice:?}");
            assert!(
                (choice.start + CLOSED + HOUR_MS).since(MONDAY) % DAY_MS <= 17 * HOUR_MS,
                "{choice:?}"
            );
        }
    }

    #[test]
    fn spans_that_touch_or_go_over_the_end_of_the_week_count_as_one() {
        let span = |from_min, to_min| WeekSpan { from_min, to_min };
        let sunday_night = span(10_080 - 60, 60);
        let minutes = |n: u64| n * 60_000;
        assert!(staffed(minutes(10_080 - 30), minutes(90), &[sunday_night]));
        assert!(!staffed(minutes(10_080 - 30), minutes(91), &[sunday_night]));
        assert!(staffed(minutes(0), minutes(100), &[span(50, 100), span(0, 50)]));
        assert!(!staffed(minutes(0), minutes(100), &[span(51, 100), span(0, 50)]));
        assert!(staffed(minutes(5_000), WEEK_MS, &[span(0, 10_080)]));
        assert!(!staffed(minutes(0), minutes(1), &[span(7, 7)]));
        assert!(staffed(minutes(3), 9 * WEEK_MS, &[span(0, 5_000), span(5_000, 10_080)]));
        assert!(!staffed(minutes(3), 9 * WEEK_MS, &[span(0, 5_000), span(5_001, 10_080)]));
    }

    #[test]
    fn notice_horizon_and_busy_times_are_respected() {
        let wednesday_four = MONDAY + 2 * DAY_MS + 4 * HOUR_MS;
        let nightly = Busy { from: wednesday_four - 5 * 60_000, to: wednesday_four + HOUR_MS };
        let constraints =
            Constraints { notice_ms: DAY_MS, busy: vec![nightly], ..Constraints::default() };
        let now = MONDAY + 7;
        let found = cheapest(&weeks(8, usual), now, 3 * DAY_MS, CLOSED, &constraints);
        assert!(!found.is_empty());
        for choice in &found {
            assert!(choice.start >= now + DAY_MS && choice.start <= now + 3 * DAY_MS);
            assert_eq!(choice.start.0 % 900_000, 0);
            assert!(
                choice.start + CLOSED <= nightly.from || choice.start >= nightly.to,
                "{choice:?}"
            );
        }
        let late = Constraints { notice_ms: WEEK_MS, ..Constraints::default() };
        assert_eq!(cheapest(&weeks(8, usual), MONDAY, DAY_MS, CLOSED, &late), []);
    }

    #[test]
    fn the_clock_that_people_live_by_moves_staff_but_not_what_was_seen() {
        let moved = Constraints { utc_offset_ms: 3_600_000, ..Constraints::default() };
        let found = cheapest(&weeks(8, usual), MONDAY, WEEK_MS, CLOSED, &moved);
        assert_eq!(hour(found[0].start), (2, 4));
        let staff = vec![WeekSpan { from_min: 540, to_min: 600 }];
        let found =
            cheapest(&weeks(8, usual), MONDAY, WEEK_MS, CLOSED, &Constraints { staff, ..moved });
        assert_eq!(hour(found[0].start), (0, 8));
    }

    #[test]
    fn a_day_of_counts_serves_for_the_week_and_less_for_nothing() {
        let day: Vec<HourCount> = weeks(1, |_, hour| usual(0, hour % 24)).split_off(144);
        let found = cheapest(&day, MONDAY, DAY_MS, CLOSED, &Constraints::default());
        assert_eq!(hour(found[0].start).1, 4);
        assert_eq!(cheapest(&day[1..], MONDAY, DAY_MS, CLOSED, &Constraints::default()), []);
    }

    #[test]
    fn an_empty_game_and_extreme_arguments_do_no_harm() {
        let found =
            cheapest(&weeks(2, |_, _| 0), MONDAY, u64::MAX, u64::MAX, &Constraints::default());
        assert!((found[0].expected_players, found[0].share_of_average) == (0.0, 1.0));
        let odd = Constraints {
            utc_offset_ms: i64::MIN,
            watch_ms: u64::MAX,
            notice_ms: u64::MAX,
            ..Constraints::default()
        };
        assert_eq!(cheapest(&weeks(2, usual), UnixMs(i64::MAX), u64::MAX, 0, &odd).len(), 0);
    }
}
