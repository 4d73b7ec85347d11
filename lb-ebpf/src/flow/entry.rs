//! An entry of the flow table, as a look-up found it.

use lb_common::{
    Backend,
    flow_table::{Hit, Layout},
};

use crate::{
    bpf::{bucket::Bucket, maps::BACKENDS},
    family::Tables,
};

/// An entry of the flow table, shared with all CPUs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow<F: Layout> {
    /// Index of its bucket.
    pub bucket: u32,
    /// 1 where the look-up ended an entry of the same 5-tuple whose backend was removed.
    pub was_left: u32,
    /// The entry at the moment of the look-up.
    pub hit: Hit<F>,
}

impl<F: Tables> Flow<F> {
    /// An entry that was found in a bucket.
    #[inline(always)]
    pub const fn new(bucket: u32, hit: Hit<F>) -> Self {
        Self {
            bucket,
            was_left: 0,
            hit,
        }
    }

    /// Its bucket.
    #[inline(always)]
    pub fn cells(&self) -> Option<Bucket> {
        F::bucket(self.bucket)
    }

    /// Its backend.
    #[inline(always)]
    pub fn backend(&self) -> Option<&'static Backend> {
        BACKENDS.get(self.hit.meta.backend())
    }
}
