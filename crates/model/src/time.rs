//! Points in time, as data. The clock itself is read at the edge of the program only.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Milliseconds from `earlier` to `self`, 0 where the clock went backwards.
    pub fn since(self, earlier: UnixMs) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl Add<u64> for UnixMs {
    type Output = UnixMs;

    fn add(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

impl Sub<u64> for UnixMs {
    type Output = UnixMs;

    fn sub(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

/// A duration for people: `340 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`.
pub fn human_ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..60_000 => format!("{} s", ms / 1_000),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// A size for people, in powers of 1000: `812 B`, `3.2 kB`, `1.4 GB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1_000_000 && unit + 1 < UNITS.len() {
        value /= 1_000;
        unit += 1;
    }
    if value >= 100_000 {
        format!("{} {}", value / 1_000, UNITS[unit])
    } else {
        format!("{}.{} {}", value / 1_000, value % 1_000 / 100, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_naturally() {
        assert_eq!(human_ms(340), "340 ms");
        assert_eq!(human_ms(4_260), "4.2 s");
        assert_eq!(human_ms(200_000), "3 min 20 s");
        assert_eq!(human_bytes(812), "812 B");
        assert_eq!(human_bytes(3_250), "3.2 kB");
        assert_eq!(human_bytes(1_449_000_000), "1.4 GB");
        assert_eq!(human_bytes(519_000_000), "519 MB");
    }

    #[test]
    fn a_clock_that_went_backwards_gives_no_huge_duration() {
        assert_eq!(UnixMs(5).since(UnixMs(9)), 0);
    }
}
