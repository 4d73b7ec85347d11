//! How the API writes a moment.

use std::time::SystemTime;

use jiff::{Timestamp, Unit};

/// A moment as RFC 3339 in UTC, to the millisecond, such as `2026-11-20T08:00:00.123Z`.
pub fn timestamp(moment: SystemTime) -> String {
    // Conversion and rounding fail only for a clock that is thousands of years off.
    let moment = Timestamp::try_from(moment).and_then(|moment| moment.round(Unit::Millisecond));
    format!("{:.3}", moment.unwrap_or(Timestamp::UNIX_EPOCH))
}
