//! Which buckets have spilled: whether entries that have one as their first bucket may stand in their second one.
//!
//! A look-up that finds nothing in the first bucket need not look at the second one unless the first has spilled. That
//! saves a new flow the second of two reads of memory that no cache has, which is a third of all that it costs.
//!
//! A mark is set before such an entry is announced, and nobody can take it back alone: other entries may want it too. So
//! every bucket has two marks. Both are set; one of them is read, as [`Settings::spill_mark`](crate::Settings) says. The
//! controller now and then clears the other one, waits for the packets under way, sets it for what stands in the
//! table, and then lets that one be read.

use crate::abi_struct;

abi_struct! {
    /// An entry of the maps `SPILLS_V4` and `SPILLS_V6`: the marks of 64 buckets.
    pub struct Spills {
        /// Both marks, one bit for each bucket.
        pub marks: [u64; 2],
    }
}

impl Spills {
    /// Where the marks of a bucket stand: the index of the entry, and the bit.
    #[inline(always)]
    pub const fn place(bucket: u32) -> (u32, u64) {
        (bucket / u64::BITS, 1 << (bucket % u64::BITS))
    }
}

/// How many entries the map of a table with so many buckets needs.
pub const fn spills_for(buckets: u32) -> u32 {
    buckets.div_ceil(u64::BITS)
}
