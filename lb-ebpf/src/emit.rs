//! Emit: the frame's addresses, and which interface it leaves by.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect},
};
use lb_common::{FlowKey, NextHop, Outcome, wire::eth};

use crate::{family::Stages, packet::Packet, parse::Parsed, punt};

/// Sends a rewritten packet whose next hop the controller has not resolved: by the kernel's tables, or else by the
/// controller.
#[inline(never)]
pub fn unresolved<F: Stages>(packet: &Packet, parsed: &Parsed<F>, rewrite: &FlowKey<F>) -> Result<Outcome, Outcome> {
    match routed(packet, parsed, rewrite) {
        Some(hop) => to_hop(packet, &hop),
        None => punt::packet::<F>(packet, parsed),
    }
}

/// Sends the packet to a resolved next hop.
#[inline(always)]
pub fn to_hop(packet: &Packet, hop: &NextHop) -> Result<Outcome, Outcome> {
    write_addresses(packet, hop)?;
    if hop.ifindex == packet.interface() {
        return Ok(Outcome::Forwarded);
    }
    // SAFETY: the helper only notes the interface; the kernel counts a frame that this one cannot send.
    unsafe { bpf_redirect(hop.ifindex, 0) };
    Ok(Outcome::Redirected)
}

/// Where the packet came from, as the hop for its answers.
#[inline(always)]
pub fn origin(packet: &Packet) -> Result<NextHop, Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    let (to, from) = addresses(&header);
    Ok(NextHop {
        addresses: swapped(to, from),
        ifindex: packet.interface(),
        ..NextHop::ZERO
    })
}

/// Swaps the frame's addresses, so that it goes back where it came from.
#[inline(always)]
pub fn turn_around(packet: &Packet) -> Result<(), Outcome> {
    let hop = origin(packet)?;
    write_addresses(packet, &hop)
}

#[inline(always)]
fn write_addresses(packet: &Packet, hop: &NextHop) -> Result<(), Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    header.store(0, hop.addresses[0]);
    header.store(4, hop.addresses[1]);
    header.store(8, hop.addresses[2]);
    Ok(())
}

type Mac = (u32, u16);

#[inline(always)]
fn addresses(header: &crate::packet::Window<{ eth::LENGTH }>) -> (Mac, Mac) {
    let to = (header.load(eth::DESTINATION), header.load(eth::DESTINATION + 4));
    let from = (header.load(eth::SOURCE), header.load(eth::SOURCE + 4));
    (to, from)
}

/// The three words of a header that goes to `from`, sent by `to`. Words lie as in memory on this little-endian target.
#[inline(always)]
fn swapped(to: Mac, from: Mac) -> [u32; 3] {
    [from.0, from.1 as u32 | to.0 << 16, to.0 >> 16 | (to.1 as u32) << 16]
}

/// Asks the kernel's routes and neighbours. They answer only where the interface forwards.
#[inline(always)]
fn routed<F: Stages>(packet: &Packet, parsed: &Parsed<F>, rewrite: &FlowKey<F>) -> Option<NextHop> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut lookup: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    lookup.l4_protocol = parsed.key.protocol;
    lookup.__bindgen_anon_1.tot_len = parsed.transport.packet_length as u16;
    lookup.ifindex = packet.interface();
    F::route(&mut lookup, rewrite);
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the helper writes within `size` bytes of `lookup`.
    let result = unsafe { fib_lookup(packet.context().as_ptr(), &mut lookup, size, 0) };
    if result != BPF_FIB_LKUP_RET_SUCCESS as i64 {
        return None;
    }
    let to = mac(&lookup.dmac);
    let from = mac(&lookup.smac);
    Some(NextHop {
        addresses: swapped(from, to),
        ifindex: lookup.ifindex,
        ..NextHop::ZERO
    })
}

#[inline(always)]
fn mac(bytes: &[u8; 6]) -> Mac {
    (
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        u16::from_le_bytes([bytes[4], bytes[5]]),
    )
}
