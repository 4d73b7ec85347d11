//! Punt: hands a rewritten packet with an unresolved next hop to the controller, which sends it
//! through the kernel.
//!
//! The packet cannot pass to the kernel: the virtual address is local and no socket listens, so the
//! kernel would send RST.

use lb_common::{
    Family, Outcome,
    punt::{MAX_PACKET, PuntRecord},
};

use crate::{bpf::maps::PUNTS, packet::Packet};

/// Length of the shortest IP header.
const SHORTEST: usize = 20;

/// Copies `length` bytes from the IP header at `l3` on into the queue.
#[inline(always)]
pub fn packet<F: Family>(packet: &Packet, l3: usize, length: usize) -> Result<Outcome, Outcome> {
    // Two comparisons with two outcomes, neither with zero: the verifier of Linux 6.1 derives
    // bounds only from these.
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
