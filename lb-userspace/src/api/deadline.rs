//! How the API reads the deadline of a drain. `lbctl` checks it the same way before it sends it.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// The duration that a text such as `5m` or `1h 30m` means; `None` if it is no duration.
pub fn deadline(text: &str) -> Option<Duration> {
    SpanParser::new().parse_unsigned_duration(text).ok()
}
