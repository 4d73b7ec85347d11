//! The arithmetic of schedulers and rate limits, for the packet path and for `lbctl explain`.

use crate::{BackendLoad, Family, FlowKey, Scheduler, hash};

/// The slot of a counter, in a ring that is not empty.
#[inline(always)]
pub const fn by_turn(cursor: u64, length: u32) -> u32 {
    (cursor % length as u64) as u32
}

/// The slot of a packet by hash: the same on every balancer with the same ring. Schedulers without
/// a hash of their own use that of the 5-tuple.
#[inline(always)]
pub fn by_hash<F: Family>(scheduler: Scheduler, key: &FlowKey<F>, source_prefix: u8, length: u32) -> u32 {
    let hash = match scheduler {
        Scheduler::SourceHash => hash::prefix(&key.source, source_prefix),
        _ => hash::stable(key),
    };
    hash::reduce(hash, length)
}

/// Flows of a backend in relation to its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Flows now.
    pub flows: u32,
    /// Its weight.
    pub weight: u32,
}

impl Load {
    /// More than any backend has.
    pub const MOST: Self = Self {
        flows: u32::MAX,
        weight: 1,
    };

    /// From the counts of a backend. Half-open flows count too: otherwise a burst of SYNs would all
    /// go to the backend with the fewest established flows.
    #[inline(always)]
    pub const fn new(load: &BackendLoad, weight: u32) -> Self {
        Self {
            flows: load.active.wrapping_add(load.embryonic),
            weight,
        }
    }

    /// Whether (flows + 1) / weight is less than the other's.
    #[inline(always)]
    pub const fn is_below(&self, other: &Self) -> bool {
        (self.flows as u64 + 1) * (other.weight as u64) < (other.flows as u64 + 1) * (self.weight as u64)
    }
}

/// The rate limit of a source, in nanoseconds.
///
/// The generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling"): each source has
/// one number, the time at which its next flow is due at an even rate. A flow can arrive earlier by
/// the duration of the burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one flow to the next.
    pub interval: u64,
    /// How much earlier than due a flow can arrive.
    pub tolerance: u64,
}

impl Pace {
    /// For `rate` flows a second, which must not be zero, and `burst` at once.
    #[inline(always)]
    pub const fn new(rate: u32, burst: u32) -> Self {
        let interval = 1_000_000_000 / rate as u64;
        let burst = if burst == 0 { 1 } else { burst as u64 };
        Self {
            interval,
            tolerance: interval * (burst - 1),
        }
    }

    /// When the flow after one that arrives now is due. `None`: the one that arrives now is too
    /// early.
    #[inline(always)]
    pub const fn next(self, expected: u64, now: u64) -> Option<u64> {
        let due = if expected > now { expected } else { now };
        if due - now > self.tolerance {
            None
        } else {
            Some(due + self.interval)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_flows_for_the_weight_win_and_equals_do_not() {
        let load = |flows, weight| Load { flows, weight };
        assert!(load(0, 1).is_below(&Load::MOST));
        assert!(load(2, 2).is_below(&load(1, 1)));
        assert!(!load(1, 2).is_below(&load(0, 1)));
        assert!(!load(3, 1).is_below(&load(2, 1)));
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_pace() {
        let pace = Pace::new(10, 3);
        let mut expected = 0;
        let mut begun = 0;
        for now in [1_000_000_000; 5] {
            if let Some(next) = pace.next(expected, now) {
                (expected, begun) = (next, begun + 1);
            }
        }
        assert_eq!(begun, 3);
        assert_eq!(pace.next(expected, 1_099_999_999), None);
        assert!(pace.next(expected, 1_100_000_000).is_some());
        assert_eq!(Pace::new(10, 0).tolerance, 0);
    }
}
