//! Checks that this machine cannot make, for want of descriptors for example: told for all backends together, and seldom. Pure.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::config::BackendId;

/// How long nothing is told after something was.
const SILENCE: Duration = Duration::from_secs(60);

/// Whose checks were not possible.
#[derive(Debug, Default)]
pub struct Hindrances {
    told: Option<Instant>,
    /// Whose, since then.
    since: BTreeSet<BackendId>,
}

impl Hindrances {
    /// Notes a check that was not possible. If that is to be told: of how many backends it is true since it was told before.
    pub fn note(&mut self, id: &BackendId, now: Instant) -> Option<usize> {
        if !self.since.contains(id) {
            self.since.insert(id.clone());
        }
        if self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < SILENCE)
        {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.since).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_at_once_and_then_once_a_minute_for_all_backends() {
        let mut hindrances = Hindrances::default();
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
            let told = hindrances.note(&id, start + Duration::from_secs(second));
            assert_eq!(told, then, "{backend} at {second}");
        }
    }
}
