//! VRRP in the packet path: adverts, liveness echoes, ARP and neighbour discovery, relay, virtual
//! router MAC addresses.
//!
//! Adverts, echoes and neighbour solicitations are packets of this link, with a hop limit of 255.

mod accept;
mod advert;
mod echo;
mod relay;
mod resolution;
mod router;
pub mod router_mac;

use lb_common::{
    Family, Outcome, V4, V6, maps,
    wire::{eth, udp, vrrp},
};

pub use self::{
    accept::refuse_unaccepted,
    relay::{is_relayed, relay},
};
use crate::{
    family::Headers,
    packet::{
        Packet,
        frame::{self, Link},
        parsed::Parsed,
    },
    stages::lookup::read,
};

/// Whether the packet can be an advert, an echo or a neighbour solicitation.
#[inline(always)]
pub fn concerns<F: Headers>(parsed: &Parsed<F>) -> bool {
    // RFC 9568, section 5.1.1.3: "A VRRP Router receiving a packet with the TTL not equal to 255
    // MUST discard the packet"; RFC 4861, section 7.1.1: a solicitation has a "Hop Limit [...] of
    // 255, i.e., the packet could not possibly have been forwarded by a router".
    parsed.transport.ttl == 255
        && (parsed.key.protocol == vrrp::PROTOCOL
            || parsed.key.protocol == udp::PROTOCOL
            || F::NUMBER == V6::NUMBER && parsed.key.protocol == F::ICMP)
}

/// The outcome of a packet that [`concerns`] this module, or an ARP packet; or the index in the map
/// `PROGRAMS` of the program that continues with it.
#[inline(always)]
pub fn run(packet: &Packet) -> Result<Outcome, u32> {
    match frame::link(packet) {
        Ok(link) if link.kind == eth::ARP.to_be() => Ok(resolution::request(packet, &link).unwrap_or(Outcome::NotIp)),
        Ok(link) if link.kind == V4::ETHER_TYPE => ip::<V4>(packet, &link, maps::SLOW_V4),
        Ok(link) if link.kind == V6::ETHER_TYPE => ip::<V6>(packet, &link, maps::SLOW_V6),
        Ok(_) => Ok(Outcome::NotIp),
        Err(outcome) => Ok(outcome),
    }
}

#[inline(always)]
fn ip<F: Headers>(packet: &Packet, link: &Link, slow: u32) -> Result<Outcome, u32> {
    let mut parsed = Parsed::<F>::BLANK;
    let is_ours = read(packet, link, &mut parsed);
    if concerns(&parsed) && parsed.transport.fragment == 0 {
        let result = match parsed.key.protocol {
            vrrp::PROTOCOL => advert::note(packet, &parsed),
            udp::PROTOCOL => echo::answer(packet, &parsed),
            _ => resolution::solicitation(packet, &parsed),
        };
        if let Ok(outcome) = result {
            return Ok(outcome);
        }
    }
    match is_ours {
        Ok(()) => Err(slow),
        Err(outcome) => Ok(outcome),
    }
}
