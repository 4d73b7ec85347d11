//! Emit: the frame's header, and which interface it leaves by.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect},
};
use lb_common::{NextHop, Outcome, Tags, wire::eth};

use crate::{
    family::Stages,
    packet::{Packet, Window},
    parse, punt,
    verdict::settle,
};

/// Sends a packet to a resolved next hop. `tags` are those that the frame has.
#[inline(always)]
pub fn to_hop<F: Stages>(packet: &Packet, tags: Tags, hop: &NextHop) -> Result<Outcome, Outcome> {
    if tags.is_same_vlan(hop.tags) {
        write_addresses(packet, hop)?;
    } else {
        retag::<F>(packet, hop)?;
    }
    Ok(leave(packet, hop))
}

/// Lets a frame leave that has its header.
#[inline(always)]
pub fn leave(packet: &Packet, hop: &NextHop) -> Outcome {
    if hop.ifindex == packet.interface() {
        return Outcome::Forwarded;
    }
    // SAFETY: the helper only notes the interface; the kernel counts a frame that this one cannot send.
    unsafe { bpf_redirect(hop.ifindex, 0) };
    Outcome::Redirected
}

/// Gives the frame the tags of the hop in place of its own.
///
/// How many it has is read from the frame: a tag may be all zero, which [`Tags`] do not count.
#[inline(never)]
fn retag<F: Stages>(packet: &Packet, hop: &NextHop) -> Result<(), Outcome> {
    let l3 = parse::link(packet)?.l3;
    packet.grow_front((eth::LENGTH + eth::TAG * hop.tags.count()) as i32 - l3 as i32)?;
    write_header(packet, hop, F::ETHER_TYPE)
}

/// Writes a whole header of a frame: addresses, tags and `kind`, in network byte order.
#[inline(always)]
pub fn write_header(packet: &Packet, hop: &NextHop, kind: u16) -> Result<(), Outcome> {
    write_addresses(packet, hop)?;
    let (outer, inner) = (hop.tags.0 as u16, (hop.tags.0 >> 16) as u16);
    match hop.tags.count() {
        0 => packet.window::<{ eth::LENGTH }>(0)?.store(eth::TYPE, kind),
        1 => {
            let header: Window<{ eth::LENGTH + eth::TAG }> = packet.window(0)?;
            header.store(eth::TYPE, eth::VLAN.to_be());
            header.store(eth::LENGTH, outer | inner);
            header.store(eth::LENGTH + 2, kind);
        }
        _ => {
            let header: Window<{ eth::LONGEST }> = packet.window(0)?;
            header.store(eth::TYPE, eth::SERVICE_VLAN.to_be());
            header.store(eth::LENGTH, outer);
            header.store(eth::LENGTH + 2, eth::VLAN.to_be());
            header.store(eth::LENGTH + eth::TAG, inner);
            header.store(eth::LENGTH + eth::TAG + 2, kind);
        }
    }
    Ok(())
}

/// Where the packet came from, as the hop for its answers.
#[inline(always)]
pub fn origin(packet: &Packet, tags: Tags) -> Result<NextHop, Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    let (to, from) = addresses(&header);
    Ok(NextHop {
        addresses: swapped(to, from),
        ifindex: packet.interface(),
        // Priorities are not the way back.
        tags: Tags(tags.0 & Tags::VLANS),
        mtu: 0,
    })
}

/// Swaps the frame's addresses, so that it goes back where it came from.
#[inline(always)]
pub fn turn_around(packet: &Packet) -> Result<(), Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    let (to, from) = addresses(&header);
    let [a, b, c] = swapped(to, from);
    header.store(0, a);
    header.store(4, b);
    header.store(8, c);
    Ok(())
}

/// Writes the frame's addresses.
#[inline(always)]
pub fn write_addresses(packet: &Packet, hop: &NextHop) -> Result<(), Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    header.store(0, hop.addresses[0]);
    header.store(4, hop.addresses[1]);
    header.store(8, hop.addresses[2]);
    Ok(())
}

type Mac = (u32, u16);

#[inline(always)]
fn addresses(header: &Window<{ eth::LENGTH }>) -> (Mac, Mac) {
    let to = (header.load(eth::DESTINATION), header.load(eth::DESTINATION + 4));
    let from = (header.load(eth::SOURCE), header.load(eth::SOURCE + 4));
    (to, from)
}

/// The three words of a header that goes to `from`, sent by `to`. Words lie as in memory on this little-endian target.
#[inline(always)]
fn swapped(to: Mac, from: Mac) -> [u32; 3] {
    [from.0, from.1 as u32 | to.0 << 16, to.0 >> 16 | (to.1 as u32) << 16]
}

/// Sends a rewritten packet whose next hop the controller has not resolved: by the kernel's tables, or else by the
/// controller. `length` counts from the IP header at `l3` on.
#[inline(never)]
pub fn unresolved<F: Stages>(packet: &Packet, l3: usize, length: usize, tags: Tags) -> Outcome {
    settle(|| match routed::<F>(packet, l3, length)? {
        Some(hop) => to_hop::<F>(packet, tags, &hop),
        None => punt::packet::<F>(packet, l3, length),
    })
}

/// Asks the kernel's routes and neighbours. They answer only where the interface forwards.
#[inline(always)]
fn routed<F: Stages>(packet: &Packet, l3: usize, length: usize) -> Result<Option<NextHop>, Outcome> {
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
        addresses: swapped(from, to),
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
