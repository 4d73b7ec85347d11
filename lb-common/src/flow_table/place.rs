//! Which buckets a 5-tuple has.

use crate::{flow::FlowKey, hash};

/// The two buckets of a 5-tuple, by their indexes in the map. They may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where it is looked for first.
    pub first: u32,
    /// Where it is looked for when it is not there.
    pub second: u32,
    /// The hash that they come from, for choices that shall stay the same for a flow.
    pub hash: u64,
}

/// The buckets of a 5-tuple in a table of `buckets`.
#[inline(always)]
pub fn places<F: crate::Family>(key: &FlowKey<F>, seed: u64, buckets: u32) -> Places {
    let hash = hash::tuple(seed, key);
    Places {
        first: hash::reduce((hash >> 32) as u32, buckets),
        second: hash::reduce(hash as u32, buckets),
        hash,
    }
}

/// How many buckets a table needs that shall hold `entries`.
///
/// With 1.8 ways for an entry, a table that is filled to its capacity refuses fewer than one new flow in ten thousand.
pub const fn buckets_for(entries: u32) -> u32 {
    let buckets = (entries as u64 * 3).div_ceil(10);
    if buckets == 0 { 1 } else { buckets as u32 }
}
