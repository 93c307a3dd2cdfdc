//! What people see: everything here renders events and decides nothing.

mod live;
mod meter;
pub mod out;
mod paint;

pub use live::{Ending, Live, Rate};
pub use meter::Meter;
pub use paint::Paint;

use entracte_model::UnixMs;

/// A moment in local time, for people: `2026-11-23 22:05:07`.
pub fn local(at: UnixMs) -> String {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(at.0) else { return at.0.to_string() };
    stamp.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
