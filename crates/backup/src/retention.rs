//! Which backups are kept: a pure choice.

use std::collections::{BTreeMap, BTreeSet};

use entracte_model::UnixMs;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::snapshot::{Kind, Snapshot};

/// How many backups are kept, of each kind and project. Days, weeks (ISO 8601) and months are
/// those of UTC, and only those that have a backup count: a game that slept for a month loses none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// The newest of each of this many days.
    pub daily: u32,
    /// The newest of each of this many weeks.
    pub weekly: u32,
    /// The newest of each of this many months.
    pub monthly: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { daily: 7, weekly: 4, monthly: 12 }
    }
}

/// The ids of the snapshots that stay. Always among them: the newest of each kind, project and name,
/// each that is protected (by its id or the beginning of it), and each from the future of `now`
/// (a clock was wrong then or is now: neither is a reason to remove it, nor to let it push others
/// out).
pub fn keep(
    snapshots: &[Snapshot],
    retention: Retention,
    protect: &[String],
    now: UnixMs,
) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    let mut groups: BTreeMap<(Kind, &str, &str), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let protected = protect.iter().any(|id| !id.is_empty() && snapshot.id.starts_with(id));
        if protected || snapshot.time > now {
            kept.insert(snapshot.id.clone());
        }
        if snapshot.time <= now {
            let group = (snapshot.kind, snapshot.project(), snapshot.name.as_str());
            groups.entry(group).or_default().push(snapshot);
        }
    }
    for mut group in groups.into_values() {
        // The id decides between two of the same time, so that the choice is always the same.
        group.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
        kept.extend(group.first().map(|newest| newest.id.clone()));
        kept.extend(newest_of_each(&group, retention.daily, day));
        kept.extend(newest_of_each(&group, retention.weekly, week));
        kept.extend(newest_of_each(&group, retention.monthly, month));
    }
    kept
}

/// The newest of each of the last `count` periods that have any; `group` is sorted, newest first.
fn newest_of_each(group: &[&Snapshot], count: u32, period: fn(UnixMs) -> i64) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut newest = Vec::new();
    for snapshot in group {
        if u32::try_from(seen.len()).is_ok_and(|seen| seen >= count) {
            break;
        }
        if seen.insert(period(snapshot.time)) {
            newest.push(snapshot.id.clone());
        }
    }
    newest
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn day(time: UnixMs) -> i64 {
    time.0.div_euclid(DAY_MS)
}

/// The number of the week: they begin on Mondays, and 1970-01-01 was a Thursday.
fn week(time: UnixMs) -> i64 {
    (day(time) + 3).div_euclid(7)
}

fn month(time: UnixMs) -> i64 {
    // Times outside of the calendar's years (-9999 to 9999) are their own period.
    Timestamp::from_millisecond(time.0).map_or(i64::MIN, |at| {
        let date = at.to_zoned_datetime(TimeZone::UTC).date();
        i64::from(date.year()) * 12 + i64::from(date.month())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-02T12:00:00Z, a Monday.
    const NOON: i64 = 1_772_452_800_000;

    fn snapshot(id: &str, kind: Kind, days_ago: i64) -> Snapshot {
        Snapshot {
            id: id.to_owned(),
            short: id.to_owned(),
            time: UnixMs(NOON - days_ago * DAY_MS),
            kind,
            name: "taverne".into(),
            bytes: 1,
            tags: BTreeMap::from([("project".to_owned(), "taverne".to_owned())]),
            restored: None,
            restore_ms: None,
        }
    }

    fn daily_for(days: i64) -> Vec<Snapshot> {
        (0..days).map(|ago| snapshot(&format!("{ago:04}"), Kind::Database, ago)).collect()
    }

    #[test]
    fn after_two_years_of_days_the_stated_numbers_stay() {
        let kept = keep(&daily_for(730), Retention::default(), &[], UnixMs(NOON));
        let days = ["0000", "0001", "0002", "0003", "0004", "0005", "0006"];
        // This week began today; the last ones ended on the Sundays before.
        let weeks = ["0000", "0001", "0008", "0015"];
        // The last days of February, January and so on, back to April of the year before.
        let months = [
            "0000", "0002", "0030", "0061", "0092", "0122", "0153", "0183", "0214", "0245", "0275",
            "0306",
        ];
        let expected = days.into_iter().chain(weeks).chain(months).map(str::to_owned).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_game_that_slept_loses_nothing() {
        let old: Vec<Snapshot> =
            (0..5).map(|n| snapshot(&format!("{n}"), Kind::Database, 400 + n)).collect();
        assert_eq!(keep(&old, Retention::default(), &[], UnixMs(NOON)).len(), 5);
    }

    #[test]
    fn the_newest_of_each_kind_and_project_and_the_protected_always_stay() {
        let none = Retention { daily: 0, weekly: 0, monthly: 0 };
        let mut all = daily_for(10);
        all.push(snapshot("tree-new", Kind::Source, 50));
        all.push(snapshot("tree-old", Kind::Source, 60));
        let mut other = snapshot("other", Kind::Database, 70);
        other.tags.insert("project".into(), "chess".into());
        all.push(other);
        let kept = keep(&all, none, &["0007".to_owned(), String::new()], UnixMs(NOON));
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["0000", "0007", "other", "tree-new"]);
    }

    #[test]
    fn one_from_the_future_is_kept_and_pushes_nobody_out() {
        let one = Retention { daily: 1, weekly: 0, monthly: 0 };
        let mut all = daily_for(3);
        all.push(snapshot("future", Kind::Database, -30));
        let kept = keep(&all, one, &[], UnixMs(NOON));
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["0000", "future"]);
    }

    #[test]
    fn of_several_on_one_day_the_last_stays() {
        let one = Retention { daily: 1, weekly: 1, monthly: 1 };
        let mut early = snapshot("early", Kind::Database, 0);
        early.time = UnixMs(NOON - 1);
        let all = [early, snapshot("late", Kind::Database, 0)];
        let kept = keep(&all, one, &[], UnixMs(NOON));
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["late"]);
    }

    #[test]
    fn weeks_begin_on_mondays() {
        assert_eq!(week(UnixMs(NOON)), week(UnixMs(NOON - DAY_MS)) + 1);
        assert_eq!(week(UnixMs(NOON)), week(UnixMs(NOON + 6 * DAY_MS)));
    }

    #[test]
    fn two_trees_of_one_day_do_not_push_each_other_out() {
        let uploads = Snapshot { name: "shared".into(), ..snapshot("b", Kind::Source, 0) };
        let all = [snapshot("a", Kind::Source, 0), uploads];
        let none = Retention { daily: 1, weekly: 0, monthly: 0 };
        assert_eq!(keep(&all, none, &[], UnixMs(NOON)).len(), 2);
    }

    /// The same choice in the calendar's own words: the last backup of each date, of each ISO week
    /// and of each month, over years with leap days and weeks that belong to another year.
    #[test]
    fn days_weeks_and_months_are_those_of_the_calendar() {
        let retention = Retention { daily: 10, weekly: 60, monthly: 30 };
        // Every 7 hours and a bit, with a gap now and then: two, three or no backups a day.
        let all: Vec<Snapshot> = (0..4_000_i64)
            .filter(|n| n % 41 < 35)
            .map(|n| Snapshot {
                time: UnixMs(NOON - n * (7 * 3_600_000 + 777_777)),
                ..snapshot(&format!("{n:05}"), Kind::Database, 0)
            })
            .collect();
        let kept = keep(&all, retention, &[], UnixMs(NOON));
        let date = |snapshot: &Snapshot| {
            let at = Timestamp::from_millisecond(snapshot.time.0).unwrap();
            at.to_zoned_datetime(TimeZone::UTC).date()
        };
        let mut expected = BTreeSet::new();
        let mut pick = |count: usize, period: &dyn Fn(&Snapshot) -> String| {
            let mut newest: BTreeMap<String, &Snapshot> = BTreeMap::new();
            // Newest first, so the first of each period is its last backup.
            for snapshot in &all {
                newest.entry(period(snapshot)).or_insert(snapshot);
            }
            let ids = newest.values().rev().take(count).map(|snapshot| snapshot.id.clone());
            expected.extend(ids);
        };
        pick(10, &|snapshot| date(snapshot).to_string());
        pick(60, &|snapshot| {
            let week = date(snapshot).iso_week_date();
            format!("{:04}-{:02}", week.year(), week.week())
        });
        pick(30, &|snapshot| format!("{:04}-{:02}", date(snapshot).year(), date(snapshot).month()));
        assert_eq!(kept, expected);
    }
}
