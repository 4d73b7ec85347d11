//! Builds the rings from which the packet path chooses the backend of a new flow.

mod maglev;
pub mod ramp;
mod ring_cache;
mod smooth;

use std::net::SocketAddr;

pub use ring_cache::{Digest, RingCache};

use lb_common::{RingSlot, Scheduler, service::MAGLEV_SLOTS};

/// A backend of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Index in the map `BACKENDS`.
    pub backend: u32,
    /// Share of new flows relative to the other members. 0: no slot.
    pub weight: u32,
    /// Address and port: the same on all balancers, and different for each member.
    pub identity: SocketAddr,
}

/// Builds the ring of a service from its backends.
///
/// - `round-robin` takes the slots in turn. Over one turn each backend has exactly its share, and
///   at every moment it is less than one slot from it.
/// - `random` takes any slot of the same ring.
/// - `least-connection` compares slots: each backend has one.
/// - `maglev` and `source-hash` take the slot of a hash.
///
/// Backends of weight 0 have no slot. The same input gives the same ring. `None`: it would have
/// more than `most` slots.
pub fn ring(scheduler: Scheduler, members: &[Member], most: u32) -> Option<Vec<RingSlot>> {
    if ring_length(scheduler, members.iter().map(|member| member.weight)) > u64::from(most) {
        return None;
    }
    let members: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
    let slot = |position: usize| RingSlot {
        backend: members[position].backend,
        weight: members[position].weight,
    };
    let order = match scheduler {
        Scheduler::LeastConnection => (0..members.len()).collect(),
        Scheduler::RoundRobin | Scheduler::Random => {
            let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight)).collect();
            smooth::sequence(&weights)
        }
        Scheduler::SourceHash | Scheduler::Maglev => {
            let candidates: Vec<_> = members
                .iter()
                .map(|member| maglev::Candidate {
                    identity: member.identity,
                    weight: member.weight,
                })
                .collect();
            maglev::table(&candidates, MAGLEV_SLOTS)
        }
    };
    Some(order.into_iter().map(slot).collect())
}

/// Length of the [`ring`] for backends of these weights, in slots, without building it.
pub fn ring_length(scheduler: Scheduler, weights: impl IntoIterator<Item = u32>) -> u64 {
    let mut weights = weights.into_iter().filter(|weight| *weight > 0).map(u64::from);
    match scheduler {
        Scheduler::LeastConnection => weights.count() as u64,
        Scheduler::RoundRobin | Scheduler::Random => {
            let (sum, divisor) = smooth::sum_and_divisor(weights);
            sum.checked_div(divisor).unwrap_or(0)
        }
        Scheduler::SourceHash | Scheduler::Maglev => weights.next().map_or(0, |_| u64::from(MAGLEV_SLOTS)),
    }
}

#[cfg(test)]
mod tests;
