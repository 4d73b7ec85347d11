//! Relay: forwards a segment of an unknown connection to the other balancer of a virtual router.

use lb_common::{Family, Outcome, wire::eth};

use super::router::{self, sender};
use crate::packet::{Packet, parsed::Parsed};

/// Forwards a segment of an unknown connection: from the master to the balancer that was master
/// before, while that exists; or from the former master to the new one.
///
/// Each balancer keeps its flows, and sends replies to clients itself: no connection breaks when an
/// address moves.
#[inline(always)]
pub fn relay<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let (router, _) = router::of_destination(packet, parsed)?;
    let heard_mac = router::heard_mac(router);
    let (entry, now) = (router::read(router), router::now());
    let is_relayed = sender(packet)? == heard_mac;
    if is_relayed && !entry.answers(now) {
        return Err(Outcome::RelayedUnknown);
    }
    if is_relayed || !entry.relays(now) {
        return Err(Outcome::NotOurs);
    }
    let own = router::own_mac(router);
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    header.store(eth::SOURCE, own as u32);
    header.store(eth::SOURCE + 4, (own >> 32) as u16);
    header.store(eth::DESTINATION, heard_mac as u32);
    header.store(eth::DESTINATION + 4, (heard_mac >> 32) as u16);
    Ok(Outcome::Relayed)
}

/// Whether another balancer relayed the packet. Replies do not go to its sender then.
#[inline(always)]
pub fn is_relayed<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> bool {
    match (router::of_destination(packet, parsed), sender(packet)) {
        (Ok((router, _)), Ok(from)) => from == router::heard_mac(router),
        _ => false,
    }
}
