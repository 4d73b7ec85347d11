//! The virtual router MAC address: it moves between balancers with the virtual addresses.

use lb_common::{
    NextHop, Outcome, Tags, VirtualRouter,
    router::{RouterKey, mac},
    wire::eth,
};

use super::router;
use crate::packet::{Packet, frame};

const PREFIX: u32 = u32::from_ne_bytes(mac::PREFIX);

/// Drops a frame to a virtual router of which this balancer is not master.
///
/// RFC 9568, section 6.4.2: a backup "MUST discard packets with a destination link-layer MAC
/// address equal to the Virtual Router MAC address". Network cards do that, except those in
/// promiscuous mode. A master that releases its address still takes such frames until the next
/// master has sent one from the address: until then, switches forward them here.
#[inline(always)]
pub fn check(packet: &Packet, tags: Tags) -> Result<(), Outcome> {
    match addressed(packet, tags) {
        Some(router) if !router::read(router).is_addressed(router::now()) => Err(Outcome::NotMaster),
        _ => Ok(()),
    }
}

/// The sender of the packet, as the hop for replies. Their source is the interface's own address:
/// the virtual router's can be on another balancer by then, and switches would forward it to this
/// one again.
#[inline(always)]
pub fn origin(packet: &Packet, tags: Tags) -> Result<NextHop, Outcome> {
    let mut hop = frame::origin(packet, tags)?;
    if let Some(router) = addressed(packet, tags) {
        let own = router::own_mac(router);
        hop.addresses[1] = hop.addresses[1] & 0xffff | (own as u32) << 16;
        hop.addresses[2] = (own >> 16) as u32;
    }
    Ok(hop)
}

/// Whether a sender is a virtual router. `mac` has the form of [`VirtualRouter::heard_mac`].
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
    router::by_key(&key)
}
