//! Spill marks: which buckets can have entries in their second bucket.
//!
//! A look-up that finds nothing in the first bucket reads the second one only if the first has
//! spilled. That saves a new flow one of two cache misses, a third of its cost.
//!
//! A mark is set before such an entry is reserved. Nobody can clear it alone, because other entries
//! can need it. So each bucket has two marks: both are set, and
//! [`Settings::spill_mark`](crate::Settings) says which one is read. From time to time the
//! controller clears the other one, waits for the packets in flight, sets it for the entries of the
//! table, and then switches to it.

use crate::abi_struct;

abi_struct! {
    /// An entry of the maps `SPILLS_V4` and `SPILLS_V6`: the marks of 64 buckets.
    pub struct Spills {
        /// Both marks, one bit for each bucket.
        pub marks: [u64; 2],
    }
}

impl Spills {
    /// The marks of a bucket: index of the entry, and bit.
    #[inline(always)]
    pub const fn place(bucket: u32) -> (u32, u64) {
        (bucket / u64::BITS, 1 << (bucket % u64::BITS))
    }
}

/// The number of map entries for a table of `buckets`.
pub const fn spills_for(buckets: u32) -> u32 {
    buckets.div_ceil(u64::BITS)
}
