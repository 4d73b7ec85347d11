//! Loops whose body the verifier checks once, not once for each turn.

use aya_ebpf::helpers::bpf_loop;

/// What follows a turn of a loop.
#[repr(i64)]
pub enum Turn {
    /// The next turn.
    Continue = 0,
    /// The end of the loop.
    Stop = 1,
}

/// Calls `turn` with 0, 1, 2, … below `count`, until it returns [`Turn::Stop`].
#[inline(always)]
pub fn repeat<S>(count: u32, turn: extern "C" fn(u32, &mut S) -> Turn, state: &mut S) {
    // SAFETY: `turn` has the signature that the helper calls: a 64-bit number of the turn, of which
    // the upper half is zero, and the state; `state` outlives the call.
    unsafe {
        bpf_loop(count, turn as *mut core::ffi::c_void, (&raw mut *state).cast(), 0);
    }
}
