//! The rings that the packet path chooses from.

mod smooth;

use lb_common::{RingSlot, Scheduler};

/// Builds the ring of a service from its backends: (index in `BACKENDS`, weight).
///
/// Round-robin takes the slots in turn, so they are laid out for it: over one turn each backend has exactly its share,
/// and at every moment of the turn it is less than one slot from it. Least-connection compares the slots, so each
/// backend has one.
///
/// Backends of weight 0 have no slot; a ring without any slot is empty. The same input gives the same ring. The memory
/// is that of [`ring_length`] slots: compare it with what the map holds before building.
pub fn ring(scheduler: Scheduler, backends: &[(u32, u32)]) -> Vec<RingSlot> {
    let slots: Vec<RingSlot> = backends
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|&(backend, weight)| RingSlot { backend, weight })
        .collect();
    match scheduler {
        Scheduler::LeastConnection => slots,
        Scheduler::RoundRobin => {
            let weights: Vec<u64> = slots.iter().map(|slot| u64::from(slot.weight)).collect();
            smooth::sequence(&weights)
                .into_iter()
                .map(|position| slots[position])
                .collect()
        }
    }
}

/// The number of slots that [`ring`] would lay out for backends of these weights, without building them.
pub fn ring_length(scheduler: Scheduler, weights: impl IntoIterator<Item = u32>) -> u64 {
    let weights = weights.into_iter().filter(|weight| *weight > 0).map(u64::from);
    match scheduler {
        Scheduler::LeastConnection => weights.count() as u64,
        Scheduler::RoundRobin => {
            let (sum, divisor) = smooth::sum_and_divisor(weights);
            sum.checked_div(divisor).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests;
