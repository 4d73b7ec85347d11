//! Which failures the death of a worker excuses.

use std::time::{Duration, Instant};

use super::Summary;
use crate::client::{Failure, Report};

/// The time in which a worker was dead and not yet declared down.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// When it was killed.
    pub(super) killed: Option<Instant>,
    /// When the daemon was first seen to show it as down.
    pub(super) declared_down: Option<Instant>,
}

impl Window {
    /// How long it took to notice.
    pub(super) fn detection(&self) -> Option<Duration> {
        Some(self.declared_down?.duration_since(self.killed?))
    }

    /// Whether a failure lies at least partly in this time. A death that nobody noticed excuses
    /// nothing.
    fn excuses(&self, failure: &Failure) -> bool {
        let after_kill = self.killed.is_some_and(|killed| failure.ended >= killed);
        let before_declared = self.declared_down.is_some_and(|declared| failure.started < declared);
        after_kill && before_declared
    }

    /// The sum of a run.
    pub(super) fn summarize(&self, report: Report, xdp_mode: &str) -> Summary {
        let errors = report.failures.len() as u64;
        let excused = report.failures.iter().filter(|failure| self.excuses(failure)).count() as u64;
        for failure in report.failures.iter().filter(|failure| !self.excuses(failure)).take(5) {
            eprintln!("failed without excuse: {}", failure.cause);
        }
        Summary {
            requests: report.answered() + errors,
            errors,
            errors_after_detection: errors - excused,
            per_backend: report.per_worker,
            detection_ms: self.detection().map(|detection| detection.as_millis() as u64),
            xdp_mode: xdp_mode.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_touches_the_time_of_detection_is_excused() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let window = Window {
            killed: Some(at(10)),
            declared_down: Some(at(20)),
        };
        for (started, ended, excused, what) in [
            (5, 6, false, "over before the kill"),
            (9, 11, true, "under way when the worker was killed"),
            (12, 13, true, "during detection"),
            (19, 25, true, "started before the worker was declared down"),
            (20, 21, false, "started when it was declared down"),
            (40, 41, false, "long after"),
        ] {
            let failure = Failure {
                started: at(started),
                ended: at(ended),
                reused: false,
                cause: String::new(),
            };
            assert_eq!(window.excuses(&failure), excused, "{what}");
        }
    }

    #[test]
    fn without_a_kill_or_its_detection_nothing_is_excused() {
        let now = Instant::now();
        let unnoticed = Window {
            killed: Some(now),
            declared_down: None,
        };
        for window in [Window::default(), unnoticed] {
            let failure = Failure {
                started: now,
                ended: now,
                reused: false,
                cause: String::new(),
            };
            assert!(!window.excuses(&failure));
        }
    }
}
