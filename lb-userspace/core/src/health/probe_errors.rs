//! Checks that this machine cannot make, for example because it has no free file descriptors:
//! limits the warnings to one a minute for all backends together.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::config::BackendId;

/// The shortest time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Collects the backends that could not be checked since the last warning.
#[derive(Debug, Default)]
pub struct ProbeErrors {
    last_warning: Option<Instant>,
    backends: BTreeSet<BackendId>,
}

impl ProbeErrors {
    /// Records a check that could not be made. Returns the number of backends to warn about, when a
    /// warning is due.
    pub fn record(&mut self, id: &BackendId, now: Instant) -> Option<usize> {
        if !self.backends.contains(id) {
            self.backends.insert(id.clone());
        }
        let is_early = |last| now.saturating_duration_since(last) < WARNING_INTERVAL;
        if self.last_warning.is_some_and(is_early) {
            return None;
        }
        self.last_warning = Some(now);
        Some(std::mem::take(&mut self.backends).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_warns_at_once_and_later_ones_once_a_minute_for_all_backends() {
        let mut errors = ProbeErrors::default();
        let start = Instant::now();
        for (second, backend, then) in [
            (0, "a", Some(1)),
            (1, "a", None),
            (1, "b", None),
            (59, "b", None),
            (60, "c", Some(3)),
            (61, "c", None),
            (200, "c", Some(1)),
        ] {
            let id = BackendId {
                service: "web".to_owned(),
                backend: backend.to_owned(),
            };
            let warning = errors.record(&id, start + Duration::from_secs(second));
            assert_eq!(warning, then, "{backend} at {second}");
        }
    }
}
