//! Atomic operations on numbers that several CPUs share.
//!
//! `core::sync::atomic` has no compare-and-swap for this target; the intrinsics compile to the
//! instructions of the third version of the BPF instruction set.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_or, atomic_xadd};

/// Adds to a shared number and returns its value before. Wraps.
#[inline(always)]
pub fn fetch_add_u64(number: *mut u64, amount: u64) -> u64 {
    // SAFETY: callers pass pointers into map values, which the verifier checks.
    unsafe { atomic_xadd::<u64, u64, { SeqCst }>(number, amount) }
}

/// Adds to a shared number. Wraps, so that adding `u32::MAX` takes one away.
#[inline(always)]
pub fn add_u32(number: *mut u32, amount: u32) {
    // SAFETY: as above.
    unsafe {
        atomic_xadd::<u32, u32, { SeqCst }>(number, amount);
    }
}

/// Sets bits of a shared number. A full barrier.
#[inline(always)]
pub fn or_u64(number: *mut u64, bits: u64) {
    // SAFETY: as above.
    unsafe {
        atomic_or::<u64, u64, { SeqCst }>(number, bits);
    }
}

/// Replaces `old` by `new`; says whether it did.
#[inline(always)]
pub fn compare_and_swap_u32(number: *mut u32, old: u32, new: u32) -> bool {
    // SAFETY: as above.
    unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(number, old, new).1 }
}

/// Replaces `old` by `new`; says whether it did. A full barrier.
#[inline(always)]
pub fn compare_and_swap_u64(number: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: as above.
    unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(number, old, new).1 }
}
