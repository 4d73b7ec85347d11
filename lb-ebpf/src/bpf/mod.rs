//! What the kernel offers to BPF programs: maps, counters, atomic operations, bounded loops.

use core::arch::asm;

pub mod atomic;
pub mod bucket;
pub mod counters;
pub mod loops;
pub mod maps;
pub mod number;

/// The number itself, hidden from the optimiser.
#[inline(always)]
pub fn opaque(mut number: u64) -> u64 {
    // SAFETY: moves a register to itself. (Without any instruction the debug information would name
    // one twice.)
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}
