//! Punt: a rewritten packet whose next hop is not resolved goes to the controller, which sends it through the kernel.
//!
//! Passing it to the kernel instead would answer it with RST: the virtual address is local, and no socket listens.

use lb_common::{
    Outcome,
    punt::{MAX_PACKET, PuntRecord},
};

use crate::{family::Stages, maps::PUNTS, packet::Packet};

/// Length of the shortest IP header.
const SHORTEST: usize = 20;

/// Copies `length` bytes from the IP header at `l3` on into the queue.
#[inline(always)]
pub fn packet<F: Stages>(packet: &Packet, l3: usize, length: usize) -> Result<Outcome, Outcome> {
    // Two comparisons with two outcomes, neither with zero: this is what the verifier of Linux 6.1 learns bounds from.
    if length < SHORTEST {
        return Err(Outcome::Malformed);
    }
    if length > MAX_PACKET {
        return Err(Outcome::PuntFull);
    }
    let Some(mut record) = PUNTS.reserve(0) else {
        return Err(Outcome::PuntFull);
    };
    let target: *mut PuntRecord = record.as_mut_ptr();
    // SAFETY: `target` points to a whole record of the queue.
    let bytes = unsafe {
        (*target).header.family = F::NUMBER as u32;
        (*target).header.length = length as u32;
        (&raw mut (*target).packet).cast::<u8>()
    };
    match packet.copy_to(l3, bytes, length as u32) {
        Ok(()) => {
            record.submit(0);
            Ok(Outcome::Punted)
        }
        Err(outcome) => {
            record.discard(0);
            Err(outcome)
        }
    }
}
