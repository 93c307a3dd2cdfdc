//! When a planned release starts, as people say it.

use entracte_model::UnixMs;
use entracte_model::plan::Plan;
use entracte_release::Target;
use entracte_release::clock::now;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan, ZonedDateTime};

use super::quiet;
use crate::config::units::Duration;
use crate::exit::Failure;

/// The furthest that a release is planned ahead: after it, every package has expired.
const AHEAD_MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;

/// A start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this moment.
    At(UnixMs),
    /// In the quietest hour of the coming week.
    Quietest,
}

impl When {
    /// Reads `quietest`, `2026-12-01T04:30`, `04:30` (the next one) or `+2h`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let moment = parse(text, &ZonedDateTime::now())?;
        if matches!(moment, When::At(start) if start <= now()) {
            return Err(Failure::usage(format!("{text} is over")));
        }
        Ok(moment)
    }

    /// The moment, for the release of `plan`.
    pub fn of(self, target: &Target, plan: &Plan) -> Result<UnixMs, Failure> {
        match self {
            When::At(start) => Ok(start),
            When::Quietest => quiet::quietest(target, plan),
        }
    }
}

fn parse(text: &str, now: &ZonedDateTime) -> Result<When, Failure> {
    let bad = || {
        Failure::usage(format!("{text:?} is no time"))
            .hint("expected 2026-12-01T04:30, 04:30, +2h, or quietest")
    };
    if text == "quietest" {
        return Ok(When::Quietest);
    }
    if let Some(length) = text.strip_prefix('+') {
        let length: Duration = length.parse().map_err(|_| bad())?;
        if length.ms > AHEAD_MS_MAX {
            return Err(bad());
        }
        let length = std::time::Duration::from_millis(length.ms);
        let start = now.checked_add(length).map_err(|_| bad())?;
        return Ok(at(&start));
    }
    // A time is also what a whole date with its time is read as: that is no time of day.
    let time_of_day = text.find(':').is_some_and(|colon| colon <= 2);
    if time_of_day && let Ok(time) = text.parse::<Time>() {
        let today = now.date().to_datetime(time);
        let day = if today <= now.datetime() { 1 } else { 0 };
        let start = today.checked_add(day.days()).map_err(|_| bad())?;
        return Ok(at(&start.to_zoned_datetime(now.time_zone().clone()).map_err(|_| bad())?));
    }
    // A day without a time is nobody's plan: it would be midnight.
    if !text.contains(['T', ' ']) {
        return Err(bad());
    }
    let local: DateTime = text.parse().map_err(|_| bad())?;
    Ok(at(&local.to_zoned_datetime(TimeZone::system()).map_err(|_| bad())?))
}

fn at(moment: &ZonedDateTime) -> When {
    When::At(UnixMs(moment.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<When> {
        let now = "2026-11-23T22:00:00Z".parse::<jiff::Timestamp>().unwrap();
        parse(text, &now.to_zoned_datetime(TimeZone::UTC)).ok()
    }

    fn utc(text: &str) -> Option<When> {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Some(When::At(UnixMs(moment.as_millisecond())))
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(read("quietest"), Some(When::Quietest));
        assert_eq!(read("23:30"), utc("2026-11-23T23:30:00Z"));
        assert_eq!(read("04:30"), utc("2026-11-24T04:30:00Z"));
        assert_eq!(read("+90s"), utc("2026-11-23T22:01:30Z"));
        for text in ["", "soon", "+soon", "2026-12-01", "25:00", "+99999999999d", "-2h"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_over_is_refused() {
        assert!(When::parse("2020-01-01T00:00").unwrap_err().message.contains("is over"));
        assert!(matches!(When::parse("2999-01-01T04:30"), Ok(When::At(_))));
    }
}
