//! When what the packet path sees of a backend makes it suspect: pure.

use std::time::{Duration, Instant};

use lb_common::{BackendSignals, signals::SUSPECT_AFTER};

/// The least time from one suspicion of a backend to the next, so that nobody can have it checked faster.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest such time: it doubles with each check that finds the backend in order, so that clients who make it look bad
/// cannot keep it suspect.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// After so long without a suspicion all is forgotten.
const CALM: Duration = Duration::from_secs(3600);

/// What is remembered of a backend from one look to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    refused: Row,
    unanswered: Row,
    last: Option<Instant>,
    /// How many suspicions in a row were not confirmed by a check.
    cleared: u32,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// How many there were when they last made the backend suspect; 0: they did not.
    told: u32,
}

impl Signs {
    /// Looks at what the packet path has counted. Returns the cause where the backend is suspect now; then the row must be
    /// twice as long before it is again, so that a backend that its checks find in order is not suspected for ever.
    pub fn look(&mut self, signals: &BackendSignals, now: Instant) -> Option<String> {
        self.refused.follow(signals.refused);
        self.unanswered.follow(signals.unanswered);
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since >= CALM) {
            self.cleared = 0;
        }
        let pause = PAUSE.saturating_mul(1 << self.cleared.min(31)).min(LONGEST_PAUSE);
        if since.is_some_and(|since| since < pause) {
            return None;
        }
        let refused = self.refused.tell(signals.refused);
        let unanswered = self.unanswered.tell(signals.unanswered);
        let cause = match (refused, unanswered) {
            (true, _) => format!("{} SYNs in a row were refused", signals.refused),
            (false, true) => format!("{} SYNs in a row got no answer", signals.unanswered),
            (false, false) => return None,
        };
        self.last = Some(now);
        Some(cause)
    }

    /// What the check of a suspect has found: it is in order, or down.
    pub fn judged(&mut self, is_well: bool) {
        self.cleared = if is_well { self.cleared.saturating_add(1) } else { 0 };
    }
}

impl Row {
    /// Forgets a row that has ended.
    fn follow(&mut self, count: u32) {
        if count < self.told {
            self.told = 0;
        }
    }

    /// Whether the row is long enough to be told.
    fn tell(&mut self, count: u32) -> bool {
        let is_long = count >= SUSPECT_AFTER.max(self.told.saturating_mul(2));
        if is_long {
            self.told = count;
        }
        is_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What looks at these numbers of refused and unanswered SYNs find, each after so many milliseconds.
    fn causes(looks: &[(u64, u32, u32)]) -> Vec<Option<String>> {
        let (mut signs, mut now) = (Signs::default(), Instant::now());
        let look = |(after, refused, unanswered): &(u64, u32, u32)| {
            now += Duration::from_millis(*after);
            let signals = BackendSignals {
                refused: *refused,
                unanswered: *unanswered,
                ..BackendSignals::ZERO
            };
            signs.look(&signals, now)
        };
        looks.iter().map(look).collect()
    }

    fn told(looks: &[(u64, u32, u32)]) -> Vec<bool> {
        causes(looks).iter().map(Option::is_some).collect()
    }

    #[test]
    fn three_in_a_row_make_a_backend_suspect_and_the_cause_tells_which() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            causes(&[(0, 2, 2), (100, 3, 2)]),
            [None, some("3 SYNs in a row were refused")]
        );
        assert_eq!(causes(&[(0, 2, 4)]), [some("4 SYNs in a row got no answer")]);
        assert_eq!(causes(&[(0, 7, 4)]), [some("7 SYNs in a row were refused")]);
    }

    #[test]
    fn a_row_that_goes_on_is_told_again_only_when_it_is_twice_as_long() {
        let looks = [
            (0, 3, 0),
            (5000, 4, 0),
            (5000, 5, 0),
            (5000, 6, 0),
            (5000, 11, 0),
            (5000, 12, 0),
        ];
        assert_eq!(told(&looks), [true, false, false, true, false, true]);
    }

    #[test]
    fn a_row_that_ended_begins_anew() {
        assert_eq!(
            told(&[(0, 3, 0), (5000, 0, 0), (5000, 2, 0), (5000, 3, 0)]),
            [true, false, false, true]
        );
        assert_eq!(told(&[(0, 0, 8), (5000, 0, 1), (5000, 0, 3)]), [true, false, true]);
    }

    #[test]
    fn nobody_is_suspected_more_than_once_a_second() {
        let looks = [(0, 3, 0), (100, 0, 0), (100, 3, 0), (700, 3, 0), (200, 3, 0)];
        assert_eq!(told(&looks), [true, false, false, false, true], "late, but not lost");
    }

    #[test]
    fn whoever_is_found_in_order_is_suspected_ever_more_seldom() {
        let suspect = BackendSignals {
            unanswered: 4,
            ..BackendSignals::ZERO
        };
        let (mut signs, begin) = (Signs::default(), Instant::now());
        let mut told = Vec::new();
        // Clients make it look bad all the time, and its checks find it in order.
        for second in 0..3600 {
            let now = begin + Duration::from_secs(second);
            signs.look(&BackendSignals::ZERO, now);
            if signs.look(&suspect, now).is_some() {
                told.push(second);
                signs.judged(true);
            }
        }
        assert_eq!(told[..6], [0, 2, 6, 14, 30, 62]);
        assert!(told.len() < 18, "{told:?}");
        // One that is down is trusted no more than before, and neither is one long after.
        let mut now = begin + Duration::from_secs(5000);
        assert!(signs.look(&suspect, now).is_some());
        signs.judged(false);
        signs.look(&BackendSignals::ZERO, now);
        now += PAUSE;
        assert!(signs.look(&suspect, now).is_some());
    }

    #[test]
    fn counts_at_their_end_do_not_overflow() {
        assert_eq!(told(&[(0, u32::MAX, 0), (5000, u32::MAX, 0)]), [true, true]);
    }
}
