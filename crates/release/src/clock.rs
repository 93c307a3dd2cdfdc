//! The clock, read here and nowhere else in this crate.

use std::time::{SystemTime, UNIX_EPOCH};

use entracte_model::UnixMs;

/// The time now.
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
