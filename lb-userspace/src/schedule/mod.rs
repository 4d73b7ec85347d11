//! The rings that the packet path chooses from.

use std::{cmp::Reverse, collections::BinaryHeap};

use lb_common::{RingSlot, Scheduler};

/// The ring for backends given as (index, weight). A backend of weight 0 has no slot.
///
/// `round-robin`: each backend stands in the ring as often as its weight says, divided by what all weights have in
/// common, and as evenly as that can be. `least-connection`: each backend once.
pub fn ring(scheduler: Scheduler, backends: &[(u32, u32)]) -> Vec<RingSlot> {
    let backends: Vec<_> = backends.iter().copied().filter(|(_, weight)| *weight > 0).collect();
    match scheduler {
        Scheduler::LeastConnection => {
            backends.iter().map(|&(backend, weight)| RingSlot { backend, weight }).collect()
        }
        Scheduler::RoundRobin => spread(&backends),
    }
}

/// How many slots [`ring`] gives.
pub fn ring_length(scheduler: Scheduler, weights: &[u32]) -> u64 {
    let weights = weights.iter().copied().filter(|weight| *weight > 0);
    match scheduler {
        Scheduler::LeastConnection => weights.count() as u64,
        Scheduler::RoundRobin => {
            let common = u64::from(weights.clone().fold(0, common_divisor)).max(1);
            weights.map(u64::from).sum::<u64>() / common
        }
    }
}

/// Places the k-th slot of a backend that has n of them where (2k + 1) / 2n of the turn is over: earliest first.
fn spread(backends: &[(u32, u32)]) -> Vec<RingSlot> {
    let common = backends.iter().map(|(_, weight)| *weight).fold(0, common_divisor).max(1);
    // The place of the next slot, as a fraction; ties go to the heavier backend, then to the order of the list.
    let mut next: BinaryHeap<Reverse<Place>> = backends
        .iter()
        .enumerate()
        .map(|(position, (_, weight))| Reverse(Place { taken: 0, slots: weight / common, position }))
        .collect();
    let length: u64 = backends.iter().map(|(_, weight)| u64::from(weight / common)).sum();
    let mut ring = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    while let Some(Reverse(place)) = next.pop() {
        let (backend, weight) = backends[place.position];
        ring.push(RingSlot { backend, weight });
        if place.taken + 1 < place.slots {
            next.push(Reverse(Place { taken: place.taken + 1, ..place }));
        }
    }
    ring
}

/// Where in the turn a backend's next slot is: at (2 `taken` + 1) / (2 `slots`).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    taken: u32,
    slots: u32,
    position: usize,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let mine = (2 * u64::from(self.taken) + 1) * u64::from(other.slots);
        let theirs = (2 * u64::from(other.taken) + 1) * u64::from(self.slots);
        mine.cmp(&theirs).then(other.slots.cmp(&self.slots)).then(self.position.cmp(&other.position))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(backends: &[(u32, u32)]) -> Vec<u32> {
        ring(Scheduler::RoundRobin, backends).iter().map(|slot| slot.backend).collect()
    }

    #[test]
    fn weights_show_as_evenly_spread_turns() {
        assert!(order(&[]).is_empty());
        assert!(order(&[(7, 0)]).is_empty());
        assert_eq!(order(&[(7, 300)]), [7]);
        assert_eq!(order(&[(1, 1), (2, 1)]), [1, 2]);
        assert_eq!(order(&[(1, 10), (2, 10), (3, 20)]), [3, 1, 2, 3]);
        assert_eq!(order(&[(1, 3), (2, 1)]), [1, 1, 2, 1]);
        assert_eq!(order(&[(1, 5), (2, 1), (3, 1)]), [1, 1, 1, 2, 3, 1, 1]);
    }

    #[test]
    fn least_connection_has_each_backend_once_with_its_weight() {
        let slots = ring(Scheduler::LeastConnection, &[(4, 2), (5, 0), (6, 9)]);
        assert_eq!(slots, [RingSlot { backend: 4, weight: 2 }, RingSlot { backend: 6, weight: 9 }]);
    }

    proptest! {
        #[test]
        fn every_stretch_of_the_ring_is_fair(weights in prop::collection::vec(0_u32..40, 1..12)) {
            let backends: Vec<_> = (0..).zip(weights.iter().copied()).collect();
            let slots = ring(Scheduler::RoundRobin, &backends);
            prop_assert_eq!(slots.len() as u64, ring_length(Scheduler::RoundRobin, &weights));
            let total: u32 = weights.iter().sum();
            for (backend, weight) in &backends {
                let mut seen = 0_i64;
                for (position, slot) in slots.iter().enumerate() {
                    seen += i64::from(slot.backend == *backend);
                    // By the turn's rule a backend is never a whole backend's number of slots ahead or behind.
                    let due = (position as i64 + 1) * i64::from(*weight);
                    let off = (seen * i64::from(total) - due).abs();
                    prop_assert!(off <= i64::from(total) * backends.len() as i64, "{slots:?}");
                }
                let share = slots.iter().filter(|slot| slot.backend == *backend).count() as u64;
                prop_assert_eq!(share * u64::from(total), u64::from(*weight) * slots.len() as u64);
            }
        }
    }
}
