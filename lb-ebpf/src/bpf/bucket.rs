//! A bucket of the flow table in kernel memory.

use lb_common::flow_table::Cells;

use super::{atomic, opaque};

/// A bucket of the flow table: a value of its map.
#[derive(Clone, Copy)]
pub struct Bucket(*mut u8);

impl Bucket {
    /// From the pointer that a look-up returned.
    #[inline(always)]
    pub fn new<T>(value: *mut T) -> Self {
        Self(value.cast())
    }
}

// Loads acquire and stores release on the machines of this target (x86-64) without further
// instructions.
impl Cells for Bucket {
    #[inline(always)]
    fn load_u64(self, offset: usize) -> u64 {
        // SAFETY: within the value, which the verifier checks, and aligned; so below.
        unsafe { core::ptr::read_volatile(self.0.add(offset).cast()) }
    }

    #[inline(always)]
    fn store_u64(self, offset: usize, value: u64) {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(self.0.add(offset).cast(), value) }
    }

    #[inline(always)]
    fn load_u32(self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(self.0.add(offset).cast()) }
    }

    #[inline(always)]
    fn store_u32(self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(self.0.add(offset).cast(), value) }
    }

    #[inline(always)]
    fn swap_u64(self, offset: usize, old: u64, new: u64) -> bool {
        // SAFETY: as above.
        atomic::compare_and_swap_u64(unsafe { self.0.add(offset).cast() }, old, new)
    }

    #[inline(always)]
    fn swap_u32(self, offset: usize, old: u32, new: u32) -> bool {
        // SAFETY: as above.
        atomic::compare_and_swap_u32(unsafe { self.0.add(offset).cast() }, old, new)
    }

    #[inline(always)]
    fn fence(self) {
        // The compare-and-swap before it is a full barrier.
    }

    #[inline(always)]
    fn opaque(number: u64) -> u64 {
        opaque(number)
    }
}
