//! The time of day, unaffected by clock steps while this process runs: deadlines come neither early
//! nor late.

use std::{sync::LazyLock, time::Instant};

use jiff::{SignedDuration, Timestamp};

/// The present time.
pub fn now() -> Timestamp {
    static BEGIN: LazyLock<(Timestamp, Instant)> = LazyLock::new(|| (Timestamp::now(), Instant::now()));
    let (day, begin) = *BEGIN;
    let since = SignedDuration::try_from(begin.elapsed()).unwrap_or(SignedDuration::MAX);
    day.saturating_add(since).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_clock() {
        let first = now();
        let second = now();
        assert!(first <= second);
        let off = second.duration_since(Timestamp::now()).abs();
        assert!(off < SignedDuration::from_secs(60), "{off}");
    }
}
