//! Formats counts and durations for people.

use std::time::Duration;

use jiff::SignedDuration;

/// A count with its noun: `1 flow`, `2 flows`.
pub fn number(count: impl Into<u64>, one: &str) -> String {
    match count.into() {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

/// A duration such as `1h 30m`, in the syntax of the configuration.
pub fn duration(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(duration) => format!("{duration:#}"),
        Err(_) => format!("{}s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_durations_use_the_largest_units() {
        assert_eq!(
            [0_u64, 1, 2].map(|count| number(count, "flow")),
            ["0 flows", "1 flow", "2 flows"]
        );
        let given_then = [(0, "0s"), (250, "250ms"), (300_000, "5m"), (5_400_000, "1h 30m")];
        for (milliseconds, then) in given_then {
            assert_eq!(duration(Duration::from_millis(milliseconds)), then);
        }
    }
}
