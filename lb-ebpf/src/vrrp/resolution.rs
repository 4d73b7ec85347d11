//! Address resolution: drops ARP requests and neighbour solicitations for addresses that this
//! balancer does not hold.
//!
//! Otherwise the kernel would answer them for an address that another balancer can have.

use lb_common::{
    Family, Outcome, Tags, V4, V6,
    router::RouterAddress,
    wire::{arp, icmp},
};

use super::router;
use crate::packet::{Packet, frame::Link, parsed::Parsed};

/// Handles an ARP request (RFC 826).
#[inline(always)]
pub fn request(packet: &Packet, link: &Link) -> Result<Outcome, Outcome> {
    let message = packet.window::<{ arp::LENGTH }>(link.l3)?;
    if message.load::<u16>(arp::OPERATION) != arp::REQUEST.to_be() {
        return Err(Outcome::NotIp);
    }
    silence(&RouterAddress {
        interface: packet.interface(),
        tags: link.tags.0 & Tags::VLANS,
        family: V4::NUMBER as u32,
        address: [message.load(arp::TARGET), 0, 0, 0],
    })
}

/// Handles a neighbour solicitation (RFC 4861, section 4.3).
#[inline(always)]
pub fn solicitation<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let message = packet.window::<{ icmp::LENGTH + 16 }>(parsed.transport.offset)?;
    if message.load::<u8>(icmp::TYPE) != icmp::NEIGHBOUR_SOLICITATION {
        return Err(Outcome::NotOurs);
    }
    let word = |i: usize| message.load::<u32>(icmp::LENGTH + 4 * i);
    silence(&RouterAddress {
        interface: packet.interface(),
        tags: parsed.tags.0 & Tags::VLANS,
        family: V6::NUMBER as u32,
        address: [word(0), word(1), word(2), word(3)],
    })
}

/// Returns the outcome of a request for an address without a valid lease.
#[inline(always)]
fn silence(address: &RouterAddress) -> Result<Outcome, Outcome> {
    let (router, _) = router::by_address(address)?;
    if router::read(router).answers(router::now()) {
        return Err(Outcome::NotOurs);
    }
    Ok(Outcome::OrphanSilenced)
}
