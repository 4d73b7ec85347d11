//! Emit: the next hop of a packet, and the interface that it leaves by.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect},
};
use lb_common::{NextHop, Outcome, Tags, wire::eth};

use super::punt;
use crate::{
    bpf::number::outcome,
    family::Headers,
    packet::{
        Packet,
        frame::{self, Mac},
    },
};

/// Sends a packet to a resolved next hop. `tags` are those of the frame now.
#[inline(always)]
pub fn to_hop<F: Headers>(packet: &Packet, tags: Tags, hop: &NextHop) -> Result<Outcome, Outcome> {
    if tags.is_same_vlan(hop.tags) {
        frame::write_addresses(packet, hop)?;
    } else {
        retag::<F>(packet, hop)?;
    }
    Ok(leave(packet, hop))
}

/// Sends a frame whose header is complete.
#[inline(always)]
pub fn leave(packet: &Packet, hop: &NextHop) -> Outcome {
    if hop.ifindex == packet.interface() {
        return Outcome::Forwarded;
    }
    // SAFETY: the helper only notes the interface. The kernel counts a frame that the interface
    // cannot send.
    unsafe { bpf_redirect(hop.ifindex, 0) };
    Outcome::Redirected
}

/// Replaces the tags of the frame by those of the hop.
///
/// The number of its own tags is read from the frame, because [`Tags`] do not count a tag of zero.
#[inline(never)]
fn retag<F: Headers>(packet: &Packet, hop: &NextHop) -> Result<(), Outcome> {
    let l3 = frame::link(packet)?.l3;
    packet.grow_front((eth::LENGTH + eth::TAG * hop.tags.count()) as i32 - l3 as i32)?;
    frame::write_header(packet, hop, F::ETHER_TYPE)
}

/// Sends a rewritten packet with an unresolved next hop: by the kernel's tables, else by the
/// controller. `length` is in bytes, from the IP header at `l3` on.
#[inline(never)]
pub fn unresolved<F: Headers>(packet: &Packet, l3: usize, length: usize, tags: Tags) -> Outcome {
    outcome(match routed::<F>(packet, l3, length) {
        Ok(Some(hop)) => to_hop::<F>(packet, tags, &hop),
        Ok(None) => punt::packet::<F>(packet, l3, length),
        Err(outcome) => Err(outcome),
    })
}

/// The next hop by the kernel's routes and neighbours. The kernel answers only if forwarding is on
/// for the interface.
#[inline(always)]
fn routed<F: Headers>(packet: &Packet, l3: usize, length: usize) -> Result<Option<NextHop>, Outcome> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut lookup: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    F::route(packet, l3, &mut lookup)?;
    lookup.__bindgen_anon_1.tot_len = length as u16;
    lookup.ifindex = packet.interface();
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the helper writes within `size` bytes of `lookup`.
    let result = unsafe { fib_lookup(packet.context().as_ptr(), &mut lookup, size, 0) };
    if result != BPF_FIB_LKUP_RET_SUCCESS as i64 {
        return Ok(None);
    }
    let to = mac(&lookup.dmac);
    let from = mac(&lookup.smac);
    Ok(Some(NextHop {
        addresses: frame::swapped(from, to),
        ifindex: lookup.ifindex,
        ..NextHop::ZERO
    }))
}

#[inline(always)]
fn mac(bytes: &[u8; 6]) -> Mac {
    (
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        u16::from_le_bytes([bytes[4], bytes[5]]),
    )
}
