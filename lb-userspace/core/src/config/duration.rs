//! Parses durations such as `1h 30m`.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

use super::{
    diagnostics::Message,
    raw::{DURATION_EXPECTED, DurationText},
};
pub(super) use crate::text::duration as words;

/// A check for durations from `low` to `high`.
pub(super) fn duration(low: Duration, high: Duration) -> impl Fn(&DurationText) -> Result<Duration, Message> {
    move |DurationText(text)| {
        // jiff refuses days, because their length depends on the calendar. So the error lists the
        // units.
        let duration = SpanParser::new().parse_unsigned_duration(text).map_err(|_| {
            Message::new(
                format!("\"{}\" is not a duration", text.escape_debug()),
                format!("{DURATION_EXPECTED} (units: h, m, s, ms, us, ns)"),
            )
        })?;
        if (low..=high).contains(&duration) {
            Ok(duration)
        } else {
            let problem = format!("{} is out of range", words(duration));
            Err(Message::new(
                problem,
                format!("a duration from {} to {}", words(low), words(high)),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_one_second_to_a_week(text: &str) -> Result<Duration, Message> {
        duration(Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600))(&DurationText(text.to_owned()))
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1500ms", 1_500),
            ("1.5s", 1_500),
            ("168h", 604_800_000),
        ] {
            assert_eq!(
                from_one_second_to_a_week(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn other_text_and_durations_out_of_range_are_refused() {
        for (text, message, expected) in [
            ("", "not a duration", DURATION_EXPECTED),
            ("10", "not a duration", DURATION_EXPECTED),
            ("ten seconds", "not a duration", DURATION_EXPECTED),
            ("-10s", "not a duration", DURATION_EXPECTED),
            ("7d", "not a duration", "units: h, m, s, ms, us, ns"),
            ("99999999999999999999h", "not a duration", DURATION_EXPECTED),
            ("999ms", "999ms is out of range", "from 1s to 168h"),
            ("168h 1s", "168h 1s is out of range", "from 1s to 168h"),
        ] {
            let problem = from_one_second_to_a_week(text).unwrap_err();
            assert!(problem.text.contains(message), "{text}: {problem:?}");
            assert!(problem.expected.contains(expected), "{text}: {problem:?}");
        }
    }
}
