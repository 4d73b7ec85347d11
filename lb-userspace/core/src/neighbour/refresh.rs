//! When the kernel is asked to resolve or confirm a neighbour. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::resolve::{NeighbourKey, Urgency};

/// When each neighbour was last refreshed.
#[derive(Debug, Default)]
pub struct Refreshes(BTreeMap<NeighbourKey, Instant>);

/// The neighbours to refresh now, and when the next one is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The neighbours to refresh now.
    pub now: Vec<NeighbourKey>,
    /// When the next one is due; `None`: none is wanted.
    pub next: Option<Instant>,
}

impl Refreshes {
    /// Selects the neighbours of `wanted` that are due, notes them as refreshed, and forgets all
    /// others.
    pub fn round(&mut self, wanted: &BTreeMap<NeighbourKey, Urgency>, now: Instant) -> Round {
        self.0
            .retain(|key, last| wanted.contains_key(key) || now < *last + Urgency::Resolve.pause());
        let mut round = Round::default();
        for (key, urgency) in wanted {
            let due = self.0.get(key).map_or(now, |last| *last + urgency.pause());
            let next = if due <= now {
                self.0.insert(*key, now);
                round.now.push(*key);
                now + urgency.pause()
            } else {
                due
            };
            round.next = Some(round.next.map_or(next, |earliest| earliest.min(next)));
        }
        round
    }
}

impl Urgency {
    /// Shortest time between two refreshes of one neighbour.
    pub const fn pause(self) -> Duration {
        match self {
            Self::Resolve => Duration::from_secs(1),
            Self::Confirm => Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> NeighbourKey {
        (1, [10, 0, 0, last].into())
    }

    #[test]
    fn a_neighbour_is_refreshed_at_once_and_then_at_its_pace() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (urgency, pause) in [(Urgency::Resolve, 1000), (Urgency::Confirm, 5000)] {
            let mut refreshes = Refreshes::default();
            let wanted = [(key(1), urgency)].into();
            let table = [
                (0, true, pause),
                (20, false, pause),
                (pause - 1, false, pause),
                (pause, true, 2 * pause),
                (3 * pause, true, 4 * pause),
            ];
            for (millis, refreshed, next) in table {
                let now = if refreshed { vec![key(1)] } else { vec![] };
                let expected = Round {
                    now,
                    next: Some(at(next)),
                };
                assert_eq!(
                    refreshes.round(&wanted, at(millis)),
                    expected,
                    "{urgency:?} at {millis} ms"
                );
            }
        }
    }

    #[test]
    fn one_that_becomes_urgent_does_not_wait_for_the_slow_pace() {
        let start = Instant::now();
        let mut refreshes = Refreshes::default();
        refreshes.round(&[(key(1), Urgency::Confirm)].into(), start);
        let round = refreshes.round(&[(key(1), Urgency::Resolve)].into(), start + Duration::from_secs(1));
        assert_eq!(round.now, [key(1)]);
    }

    #[test]
    fn leaving_and_coming_back_does_not_break_the_pace() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut refreshes = Refreshes::default();
        let wanted = [(key(1), Urgency::Resolve)].into();
        refreshes.round(&wanted, at(0));
        refreshes.round(&BTreeMap::new(), at(100));
        assert_eq!(refreshes.round(&wanted, at(200)).now, []);
        refreshes.round(&BTreeMap::new(), at(2000));
        assert!(refreshes.0.is_empty(), "nothing is remembered for ever");
    }

    #[test]
    fn the_next_round_is_that_of_the_most_urgent() {
        let start = Instant::now();
        let wanted = [(key(1), Urgency::Confirm), (key(2), Urgency::Resolve)].into();
        let round = Refreshes::default().round(&wanted, start);
        assert_eq!(round.now.len(), 2);
        assert_eq!(round.next, Some(start + Duration::from_secs(1)));
    }
}
