//! Frames to the link-layer address of a virtual router, which moves from balancer to balancer with its addresses.

use lb_common::{
    NextHop, Outcome, Tags, VirtualRouter,
    router::{RouterKey, mac},
    wire::eth,
};

use crate::{
    emit,
    maps::{ROUTER_IDS, VIRTUAL_ROUTERS},
    packet::Packet,
    vrrp,
};

const PREFIX: u32 = u32::from_ne_bytes(mac::PREFIX);

/// Drops a frame that is for whoever is master of a virtual router, where this balancer is not.
///
/// RFC 9568, section 6.4.2: a backup "MUST discard packets with a destination link-layer MAC address equal to the Virtual
/// Router MAC address". Cards do that, but not those that take all frames. A master that hands over takes them until the
/// next one has sent from that address: switches lead them here so long.
#[inline(always)]
pub fn check(packet: &Packet, tags: Tags) -> Result<(), Outcome> {
    match addressed(packet, tags) {
        Some(router) if !vrrp::is_addressed(router) => Err(Outcome::NotMaster),
        _ => Ok(()),
    }
}

/// Where the packet came from, as the hop for its answers. They come from the interface's own address: a virtual router's
/// may be elsewhere by then, and switches would follow it back here.
#[inline(always)]
pub fn origin(packet: &Packet, tags: Tags) -> Result<NextHop, Outcome> {
    let mut hop = emit::origin(packet, tags)?;
    if let Some(router) = addressed(packet, tags) {
        let own = vrrp::own_mac(router);
        hop.addresses[1] = hop.addresses[1] & 0xffff | (own as u32) << 16;
        hop.addresses[2] = (own >> 16) as u32;
    }
    Ok(hop)
}

/// Whether a frame's sender is a virtual router: as [`VirtualRouter::heard_mac`] has it.
#[inline(always)]
pub fn is_router(mac: u64) -> bool {
    mac as u32 == PREFIX && mac::family(((mac >> 32) as u16).to_le_bytes()).is_some()
}

/// The virtual router that a frame is addressed to, if it is one of ours.
#[inline(always)]
fn addressed(packet: &Packet, tags: Tags) -> Option<*mut VirtualRouter> {
    let header = packet.window::<{ eth::LENGTH }>(0).ok()?;
    if header.load::<u32>(eth::DESTINATION) != PREFIX {
        return None;
    }
    let last = header.load::<u16>(eth::DESTINATION + 4).to_ne_bytes();
    let key = RouterKey {
        interface: packet.interface(),
        tags: tags.0 & Tags::VLANS,
        router: last[1] as u16,
        family: mac::family(last)?,
    };
    // SAFETY: the value is one word that the controller writes whole.
    let index = unsafe { ROUTER_IDS.get(key) }?;
    VIRTUAL_ROUTERS.get_ptr_mut(*index)
}
