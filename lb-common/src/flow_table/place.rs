//! The two buckets of a 5-tuple.

use crate::{flow::FlowKey, hash};

/// The two buckets of a 5-tuple, by their indexes in the map. They are never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Places {
    /// The bucket that look-ups read first.
    pub first: u32,
    /// The bucket that look-ups read next.
    pub second: u32,
}

/// The buckets of a 5-tuple in a table of `buckets`, at least two.
#[inline(always)]
pub fn places<F: crate::Family>(key: &FlowKey<F>, seed: u64, buckets: u32) -> Places {
    let hash = hash::tuple(seed, key);
    let first = hash::reduce((hash >> 32) as u32, buckets);
    let offset = 1 + hash::reduce(hash as u32, buckets.saturating_sub(1));
    let second = first.wrapping_add(offset);
    Places {
        first,
        second: if second >= buckets {
            second.wrapping_sub(buckets)
        } else {
            second
        },
    }
}

/// The number of buckets for a table of `entries`.
///
/// With 1.8 slots for each entry, a table that is filled to its capacity refuses fewer than one new
/// flow in ten thousand.
pub const fn buckets_for(entries: u32) -> u32 {
    let buckets = (entries as u64 * 3).div_ceil(10);
    if buckets < 2 { 2 } else { buckets as u32 }
}
