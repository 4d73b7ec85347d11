//! Passive signals: which backends answer, refuse or ignore SYNs.

use lb_common::{
    BackendSignals, Phase,
    flow_table::{Hit, Layout},
    wire::tcp,
};

use super::clock::now;
use crate::bpf::{atomic, maps::BACKEND_SIGNALS};

/// Notes a worker's reply to a flow that was in this phase before.
#[inline(always)]
pub fn answered<F: Layout>(hit: &Hit<F>, before: Phase, flags: u8) {
    const REFUSED: u8 = tcp::RST | tcp::ACK;
    let is_opening = matches!(before, Phase::Opening);
    if flags & tcp::RST == 0 {
        if is_opening && flags & tcp::SYN != 0 {
            accepted(hit.meta.backend());
        }
    } else if is_opening && flags & REFUSED == REFUSED {
        // RFC 9293, section 3.10.7.1: the reset that answers a SYN acknowledges it. One that does
        // not is the answer to another segment, which a client can send to make a worker look
        // faulty.
        refused(hit.meta.backend());
    }
}

/// The backend answered a SYN. Known facts are not written again, because many CPUs share the
/// entry.
#[inline(always)]
fn accepted(backend: u32) {
    let Some(signals) = BACKEND_SIGNALS.get_ptr_mut(backend) else {
        return;
    };
    let mark = BackendSignals::mark(now());
    // SAFETY: a pointer to a map value, whose words other CPUs and the controller change one by
    // one.
    unsafe {
        let BackendSignals {
            answered,
            refused,
            unanswered,
            ..
        } = core::ptr::read_volatile(signals);
        if answered != mark {
            core::ptr::write_volatile(&raw mut (*signals).answered, mark);
        }
        if refused | unanswered != 0 {
            core::ptr::write_volatile(&raw mut (*signals).refused, 0);
            core::ptr::write_volatile(&raw mut (*signals).unanswered, 0);
        }
    }
}

#[inline(always)]
fn refused(backend: u32) {
    if let Some(signals) = BACKEND_SIGNALS.get_ptr_mut(backend) {
        // SAFETY: a pointer to a map value.
        atomic::add_u32(unsafe { &raw mut (*signals).refused }, 1);
    }
}

/// Notes that the backend did not answer a SYN. Returns its signals.
#[inline(always)]
pub fn unanswered(backend: u32) -> Option<BackendSignals> {
    let signals = BACKEND_SIGNALS.get_ptr_mut(backend)?;
    // SAFETY: a pointer to a map value.
    atomic::add_u32(unsafe { &raw mut (*signals).unanswered }, 1);
    // SAFETY: as above.
    Some(unsafe { core::ptr::read_volatile(signals) })
}
