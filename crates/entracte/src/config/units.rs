//! Durations, sizes and times of day as people write them.

use serde::{Deserialize, Deserializer};

/// A duration: `300ms`, `10s`, `2min`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration {
    /// In milliseconds.
    pub ms: u64,
}

/// A size: `512kB`, `50MB`, `2GB` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In bytes.
    pub bytes: u64,
}

/// A time of day: `04:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: i8,
    /// 0 to 59.
    pub minute: i8,
}

impl Duration {
    /// A duration of `ms` milliseconds.
    pub const fn ms(ms: u64) -> Self {
        Self { ms }
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration { ms: number.checked_mul(unit_ms)? })
}

fn size(text: &str) -> Option<Size> {
    let (number, unit) = number_and_unit(text)?;
    let unit_bytes = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    Some(Size { bytes: number.checked_mul(unit_bytes)? })
}

fn time_of_day(text: &str) -> Option<TimeOfDay> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(TimeOfDay { hour, minute })
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).ok_or_else(|| {
            format!("expected a duration such as 300ms, 10s, 2min or 1h, found {text:?}")
        })
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        size(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "expected a size such as 512kB, 50MB or 2GB, found {text:?}"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        time_of_day(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("expected a time such as 04:30, found {text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_written() {
        assert_eq!(duration("300ms"), Some(Duration { ms: 300 }));
        assert_eq!(duration("2min"), Some(Duration { ms: 120_000 }));
        assert_eq!(size("50MB"), Some(Size { bytes: 50_000_000 }));
        assert_eq!(time_of_day("04:30"), Some(TimeOfDay { hour: 4, minute: 30 }));
    }

    #[test]
    fn a_number_without_its_unit_is_refused() {
        assert_eq!(duration("10"), None);
        assert_eq!(duration("s"), None);
        assert_eq!(duration("99999999999999999999h"), None);
        assert_eq!(size("5"), None);
        assert_eq!(time_of_day("24:00"), None);
    }
}
