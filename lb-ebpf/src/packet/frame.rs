//! The link-layer header of a frame: addresses, VLAN tags, type of the payload.

use lb_common::{NextHop, Outcome, Tags, wire::eth};

use super::{Packet, Window};
use crate::bpf::opaque;

/// What precedes the IP header.
#[derive(Clone, Copy)]
pub struct Link {
    /// Type of the payload, in network byte order.
    pub kind: u16,
    /// Offset of the IP header.
    pub l3: usize,
    /// VLAN tags.
    pub tags: Tags,
}

/// Reads the header of a frame with up to two VLAN tags.
///
/// There is no branch: to the verifier, the offset of the IP header is one number, not three
/// programs.
#[inline(always)]
pub fn link(packet: &Packet) -> Result<Link, Outcome> {
    let header: Window<{ eth::LONGEST }> = packet.window(0)?;
    let outer: u16 = header.load(eth::TYPE);
    let first = is_tag(outer);
    let inner: u16 = header.load(eth::TYPE + eth::TAG);
    let second = first & is_tag(inner);
    let count = opaque(first + second) as usize & 3;
    let outer_tag = header.load::<u16>(eth::LENGTH) as u64 * first;
    let inner_tag = header.load::<u16>(eth::LENGTH + eth::TAG) as u64 * second;
    let tags = outer_tag | (inner_tag << 16);
    let l3 = eth::LENGTH + count * eth::TAG;
    Ok(Link {
        kind: packet.window::<2>(l3 - 2)?.load(0),
        l3,
        tags: Tags(tags as u32),
    })
}

/// 1 for the type of a tagged frame, else 0, without a branch.
#[inline(always)]
fn is_tag(kind: u16) -> u64 {
    const TAG: u64 = eth::VLAN.to_be() as u64;
    const SERVICE: u64 = eth::SERVICE_VLAN.to_be() as u64;
    let (tag, service) = (kind as u64 ^ TAG, kind as u64 ^ SERVICE);
    (opaque(tag.wrapping_sub(1)) >> 63) + (opaque(service.wrapping_sub(1)) >> 63)
}

/// Writes a whole header: addresses and tags of the hop, and `kind` in network byte order.
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

/// Writes the addresses of the hop.
#[inline(always)]
pub fn write_addresses(packet: &Packet, hop: &NextHop) -> Result<(), Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    header.store(0, hop.addresses[0]);
    header.store(4, hop.addresses[1]);
    header.store(8, hop.addresses[2]);
    Ok(())
}

/// The sender of the frame, as the hop for replies.
#[inline(always)]
pub fn origin(packet: &Packet, tags: Tags) -> Result<NextHop, Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    let (to, from) = addresses(&header);
    Ok(NextHop {
        addresses: swapped(to, from),
        ifindex: packet.interface(),
        // Priorities do not identify a hop.
        tags: Tags(tags.0 & Tags::VLANS),
        mtu: 0,
    })
}

/// Swaps the addresses, so that the frame returns to its sender.
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

/// A link-layer address: its first four bytes and its last two, as in memory.
pub type Mac = (u32, u16);

#[inline(always)]
fn addresses(header: &Window<{ eth::LENGTH }>) -> (Mac, Mac) {
    let to = (header.load(eth::DESTINATION), header.load(eth::DESTINATION + 4));
    let from = (header.load(eth::SOURCE), header.load(eth::SOURCE + 4));
    (to, from)
}

/// The address words of a frame from `to` to `from`: the reverse direction. Words lie as in memory
/// on this little-endian target.
#[inline(always)]
pub fn swapped(to: Mac, from: Mac) -> [u32; 3] {
    [from.0, from.1 as u32 | to.0 << 16, to.0 >> 16 | (to.1 as u32) << 16]
}
