//! Loops that the verifier checks once, not once a turn.

use aya_ebpf::helpers::bpf_loop;

/// What a turn of a loop says.
#[repr(i64)]
pub enum Step {
    /// Go on with the next turn.
    Continue = 0,
    /// End the loop.
    Stop = 1,
}

/// Calls `turn` with 0, 1, 2, … below `count`, until it says to stop.
#[inline(always)]
pub fn repeat<S>(count: u32, turn: extern "C" fn(u32, &mut S) -> Step, state: &mut S) {
    // SAFETY: `turn` has the signature that the helper calls: a 64-bit number of the turn, of which the upper half is
    // zero, and the state; `state` outlives the call.
    unsafe {
        bpf_loop(count, turn as *mut core::ffi::c_void, (&raw mut *state).cast(), 0);
    }
}
