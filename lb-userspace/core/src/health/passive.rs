//! Passive checks: when failed handshakes that the packet path sees make a backend suspect.

use std::time::{Duration, Instant};

use lb_common::{BackendSignals, signals::SUSPECT_AFTER};

/// The shortest time between two suspicions of a backend. It bounds how often clients can have a
/// backend checked.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such time. The pause doubles with each suspicion that a check does not confirm, so
/// that clients who make a healthy backend look bad cannot keep it suspect.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// After this time without a suspicion, the pause is the shortest again.
const CALM: Duration = Duration::from_secs(3600);

/// What the passive check of one backend remembers between two reads of its counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassiveCheck {
    refused: Streak,
    unanswered: Streak,
    last_suspicion: Option<Instant>,
    /// Suspicions in a row that a check did not confirm.
    unconfirmed: u32,
}

/// Failures in a row of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    /// Its length when it last made the backend suspect; 0: it has not.
    reported: u32,
}

impl PassiveCheck {
    /// Evaluates the counters of the packet path. Returns the cause if the backend is suspect now.
    /// The same streak makes it suspect again only at twice the length, so that a backend that
    /// passes its checks does not stay suspect.
    pub fn evaluate(&mut self, signals: &BackendSignals, now: Instant) -> Option<String> {
        self.refused.reset_if_ended(signals.refused);
        self.unanswered.reset_if_ended(signals.unanswered);
        let since = self.last_suspicion.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since >= CALM) {
            self.unconfirmed = 0;
        }
        let pause = SHORTEST_PAUSE
            .saturating_mul(1 << self.unconfirmed.min(31))
            .min(LONGEST_PAUSE);
        if since.is_some_and(|since| since < pause) {
            return None;
        }
        let refused = self.refused.is_due(signals.refused);
        let unanswered = self.unanswered.is_due(signals.unanswered);
        let cause = match (refused, unanswered) {
            (true, _) => format!("{} SYNs in a row were refused", signals.refused),
            (false, true) => format!("{} SYNs in a row got no reply", signals.unanswered),
            (false, false) => return None,
        };
        self.last_suspicion = Some(now);
        Some(cause)
    }

    /// Stores what the check of a suspect backend has found.
    pub fn checked(&mut self, is_healthy: bool) {
        self.unconfirmed = if is_healthy {
            self.unconfirmed.saturating_add(1)
        } else {
            0
        };
    }
}

impl Streak {
    /// Starts a new streak if the counter has fallen.
    fn reset_if_ended(&mut self, count: u32) {
        if count < self.reported {
            self.reported = 0;
        }
    }

    /// Whether the streak is long enough to make the backend suspect, which then counts as
    /// reported.
    fn is_due(&mut self, count: u32) -> bool {
        let is_due = count >= SUSPECT_AFTER.max(self.reported.saturating_mul(2));
        if is_due {
            self.reported = count;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results of evaluations. Each one is given by the milliseconds since the last one and by
    /// the counters of refused and unanswered SYNs.
    fn causes(reads: &[(u64, u32, u32)]) -> Vec<Option<String>> {
        let (mut check, mut now) = (PassiveCheck::default(), Instant::now());
        let evaluate = |(after, refused, unanswered): &(u64, u32, u32)| {
            now += Duration::from_millis(*after);
            let signals = BackendSignals {
                refused: *refused,
                unanswered: *unanswered,
                ..BackendSignals::ZERO
            };
            check.evaluate(&signals, now)
        };
        reads.iter().map(evaluate).collect()
    }

    fn suspected(reads: &[(u64, u32, u32)]) -> Vec<bool> {
        causes(reads).iter().map(Option::is_some).collect()
    }

    #[test]
    fn three_failures_in_a_row_make_a_backend_suspect_and_the_cause_names_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            causes(&[(0, 2, 2), (100, 3, 2)]),
            [None, some("3 SYNs in a row were refused")]
        );
        assert_eq!(causes(&[(0, 2, 4)]), [some("4 SYNs in a row got no reply")]);
        assert_eq!(causes(&[(0, 7, 4)]), [some("7 SYNs in a row were refused")]);
    }

    #[test]
    fn a_longer_streak_counts_again_only_at_twice_the_length() {
        let reads = [
            (0, 3, 0),
            (5000, 4, 0),
            (5000, 5, 0),
            (5000, 6, 0),
            (5000, 11, 0),
            (5000, 12, 0),
        ];
        assert_eq!(suspected(&reads), [true, false, false, true, false, true]);
    }

    #[test]
    fn a_new_streak_counts_from_its_start() {
        assert_eq!(
            suspected(&[(0, 3, 0), (5000, 0, 0), (5000, 2, 0), (5000, 3, 0)]),
            [true, false, false, true]
        );
        assert_eq!(suspected(&[(0, 0, 8), (5000, 0, 1), (5000, 0, 3)]), [true, false, true]);
    }

    #[test]
    fn a_backend_is_suspected_at_most_once_a_second() {
        let reads = [(0, 3, 0), (100, 0, 0), (100, 3, 0), (700, 3, 0), (200, 3, 0)];
        assert_eq!(
            suspected(&reads),
            [true, false, false, false, true],
            "late, but not lost"
        );
    }

    #[test]
    fn a_backend_that_passes_its_checks_is_suspected_less_and_less_often() {
        let suspect = BackendSignals {
            unanswered: 4,
            ..BackendSignals::ZERO
        };
        let (mut check, begin) = (PassiveCheck::default(), Instant::now());
        let mut suspected = Vec::new();
        // Clients make it look bad all the time, and it passes its checks.
        for second in 0..3600 {
            let now = begin + Duration::from_secs(second);
            check.evaluate(&BackendSignals::ZERO, now);
            if check.evaluate(&suspect, now).is_some() {
                suspected.push(second);
                check.checked(true);
            }
        }
        assert_eq!(suspected[..6], [0, 2, 6, 14, 30, 62]);
        assert!(suspected.len() < 18, "{suspected:?}");
        // A confirmed suspicion resets the pause, and so does a long time without one.
        let mut now = begin + Duration::from_secs(5000);
        assert!(check.evaluate(&suspect, now).is_some());
        check.checked(false);
        check.evaluate(&BackendSignals::ZERO, now);
        now += SHORTEST_PAUSE;
        assert!(check.evaluate(&suspect, now).is_some());
    }

    #[test]
    fn counters_at_their_maximum_do_not_overflow() {
        assert_eq!(suspected(&[(0, u32::MAX, 0), (5000, u32::MAX, 0)]), [true, true]);
    }
}
