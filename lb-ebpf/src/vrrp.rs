//! VRRP in the packet path: notes adverts when they come, answers other balancers' questions whether this one still
//! forwards, and keeps the kernel from answering for addresses without a lease.
//!
//! All of it is about packets of this link: ARP, and IP packets with a hop limit of 255.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lb_common::{
    Family, Outcome, Tags, V4, V6, VirtualRouter,
    checksum::Delta,
    router::{RouterAddress, RouterKey, echo, place},
    wire::{arp, eth, icmp, ipv4, ipv6, udp, vrrp},
};

use crate::{
    emit,
    family::Stages,
    maps::{ROUTER_ADDRESSES, ROUTER_IDS, VIRTUAL_ROUTERS},
    packet::Packet,
    parse::{self, Link, Parsed},
    pipeline::read,
    router_mac,
    slow::step,
};

/// Whether the packet may be about VRRP or about who has an address.
#[inline(always)]
pub fn concerns<F: Stages>(parsed: &Parsed<F>) -> bool {
    // RFC 9568, section 5.1.1.3: "A VRRP Router receiving a packet with the TTL not equal to 255 MUST discard the packet";
    // RFC 4861, section 7.1.1: a solicitation has a "Hop Limit [...] of 255, i.e., the packet could not possibly have been
    // forwarded by a router".
    parsed.transport.ttl == 255
        && (parsed.key.protocol == vrrp::PROTOCOL
            || parsed.key.protocol == udp::PROTOCOL
            || F::NUMBER == V6::NUMBER && parsed.key.protocol == F::ICMP)
}

/// Sends a segment of a connection that is not known here on to the balancer that was master before, while that is there; or,
/// from one that is master no more, to the one that is now.
///
/// Each keeps its flows, and its answers go to the client themselves: so no connection ends because an address moves.
#[inline(always)]
pub fn relay<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let router = router_of(packet, parsed)?;
    let heard_mac = heard_mac(router);
    let (entry, now) = (read_router(router), now());
    let is_relayed = sender(packet)? == heard_mac;
    if is_relayed && !entry.answers(now) {
        return Err(Outcome::RelayedUnknown);
    }
    if is_relayed || !entry.relays(now) {
        return Err(Outcome::NotOurs);
    }
    let own = own_mac(router);
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    header.store(eth::SOURCE, own as u32);
    header.store(eth::SOURCE + 4, (own >> 32) as u16);
    header.store(eth::DESTINATION, heard_mac as u32);
    header.store(eth::DESTINATION + 4, (heard_mac >> 32) as u16);
    Ok(Outcome::Relayed)
}

/// Whether the packet was sent on by another balancer: that is not where answers go.
#[inline(always)]
pub fn is_relayed<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> bool {
    match (router_of(packet, parsed), sender(packet)) {
        (Ok(router), Ok(from)) => from == heard_mac(router),
        _ => false,
    }
}

#[inline(always)]
fn router_of<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<*mut VirtualRouter, Outcome> {
    place_of(packet, parsed).map(|(router, _)| router)
}

/// The virtual router that has the destination, and whether it refuses what belongs to no service.
#[inline(always)]
fn place_of<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<(*mut VirtualRouter, bool), Outcome> {
    let address = RouterAddress {
        interface: packet.interface(),
        tags: parsed.tags.0 & Tags::VLANS,
        family: F::NUMBER as u32,
        address: F::widen(&parsed.key.destination),
    };
    // SAFETY: the value is one word that the controller writes whole.
    let place = unsafe { ROUTER_ADDRESSES.get(address) }.ok_or(Outcome::NotOurs)?;
    let router = VIRTUAL_ROUTERS.get_ptr_mut(place::index(*place));
    Ok((router.ok_or(Outcome::NotOurs)?, place::refuses(*place)))
}

#[inline(always)]
fn heard_mac(router: *mut VirtualRouter) -> u64 {
    // SAFETY: within the value of the map; the word is written whole.
    unsafe { core::ptr::read_volatile(&raw const (*router).heard_mac) }
}

/// The interface's own link-layer address, as [`VirtualRouter::own_mac`] has it.
#[inline(always)]
pub fn own_mac(router: *mut VirtualRouter) -> u64 {
    // SAFETY: within the value of the map; the word is written whole.
    unsafe { core::ptr::read_volatile(&raw const (*router).own_mac) }
}

/// Whether frames to the virtual router's own link-layer address are for this balancer.
#[inline(always)]
pub fn is_addressed(router: *mut VirtualRouter) -> bool {
    read_router(router).is_addressed(now())
}

/// The link-layer address that the frame comes from, as [`VirtualRouter::heard_mac`] has it.
#[inline(always)]
fn sender(packet: &Packet) -> Result<u64, Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    Ok(header.load::<u32>(eth::SOURCE) as u64 | (header.load::<u16>(eth::SOURCE + 4) as u64) << 32)
}

/// Refuses the packet in the room, which belongs to no service, where its destination is an address that takes nothing else.
///
/// RFC 9568, section 6.1: "Accept_Mode [...] Controls whether a VRRP Router in Active state will accept packets addressed to
/// the address owner's IPvX address as its own if it is not the IPvX address owner"; IPv6 Neighbor Solicitations and
/// Neighbor Advertisements are not dropped even then.
#[inline(always)]
pub fn accept<F: Stages>(packet: &Packet) -> u32 {
    step(|| {
        let parsed = &F::room().ok_or(Outcome::Inconsistent)?.parsed;
        let Ok((router, true)) = place_of(packet, parsed) else {
            return Ok(None);
        };
        if F::NUMBER == V6::NUMBER && parsed.key.protocol == F::ICMP && parsed.transport.fragment == 0 {
            let kind: u8 = packet
                .window::<{ icmp::LENGTH }>(parsed.transport.offset)?
                .load(icmp::TYPE);
            if matches!(kind, icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT) {
                return Ok(None);
            }
        }
        Ok(read_router(router).answers(now()).then_some(Outcome::NotAccepted))
    })
}

/// What becomes of such a packet; or where the program that goes on with it stands in the map `PROGRAMS`.
#[inline(always)]
pub fn run(packet: &Packet) -> Result<Outcome, u32> {
    match parse::link(packet) {
        Ok(link) if link.kind == eth::ARP.to_be() => Ok(request(packet, &link).unwrap_or(Outcome::NotIp)),
        Ok(link) if link.kind == V4::ETHER_TYPE => ip::<V4>(packet, &link, lb_common::maps::SLOW_V4),
        Ok(link) if link.kind == V6::ETHER_TYPE => ip::<V6>(packet, &link, lb_common::maps::SLOW_V6),
        Ok(_) => Ok(Outcome::NotIp),
        Err(outcome) => Ok(outcome),
    }
}

#[inline(always)]
fn ip<F: Stages>(packet: &Packet, link: &Link, slow: u32) -> Result<Outcome, u32> {
    let mut parsed = Parsed::<F>::BLANK;
    let way = read(packet, link, &mut parsed);
    if concerns(&parsed) && parsed.transport.fragment == 0 {
        let found = match parsed.key.protocol {
            vrrp::PROTOCOL => advert(packet, &parsed),
            udp::PROTOCOL => question(packet, &parsed),
            _ => solicitation(packet, &parsed),
        };
        if let Ok(outcome) = found {
            return Ok(outcome);
        }
    }
    match way {
        Ok(()) => Err(slow),
        Err(outcome) => Ok(outcome),
    }
}

/// An ARP request for an address: RFC 826.
#[inline(always)]
fn request(packet: &Packet, link: &Link) -> Result<Outcome, Outcome> {
    let message = packet.window::<{ arp::LENGTH }>(link.l3)?;
    if message.load::<u16>(arp::OPERATION) != arp::REQUEST.to_be() {
        return Err(Outcome::NotIp);
    }
    may_answer(&RouterAddress {
        interface: packet.interface(),
        tags: link.tags.0 & Tags::VLANS,
        family: V4::NUMBER as u32,
        address: [message.load(arp::TARGET), 0, 0, 0],
    })
}

/// A neighbour solicitation for an address: RFC 4861, section 4.3.
#[inline(always)]
fn solicitation<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let message = packet.window::<{ icmp::LENGTH + 16 }>(parsed.transport.offset)?;
    if message.load::<u8>(icmp::TYPE) != icmp::NEIGHBOUR_SOLICITATION {
        return Err(Outcome::NotOurs);
    }
    let word = |i: usize| message.load::<u32>(icmp::LENGTH + 4 * i);
    may_answer(&RouterAddress {
        interface: packet.interface(),
        tags: parsed.tags.0 & Tags::VLANS,
        family: V6::NUMBER as u32,
        address: [word(0), word(1), word(2), word(3)],
    })
}

/// Silences the kernel where the address is one that another balancer may have by now.
#[inline(always)]
fn may_answer(address: &RouterAddress) -> Result<Outcome, Outcome> {
    // SAFETY: the value is one word that the controller writes whole.
    let place = unsafe { ROUTER_ADDRESSES.get(address) }.ok_or(Outcome::NotOurs)?;
    let router = VIRTUAL_ROUTERS.get_ptr_mut(place::index(*place));
    let router = router.ok_or(Outcome::NotOurs)?;
    if read_router(router).answers(now()) {
        return Err(Outcome::NotOurs);
    }
    Ok(Outcome::OrphanSilenced)
}

/// Notes when an advert came, which the kernel then hands to the controller.
#[inline(always)]
fn advert<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let message = packet.window::<{ vrrp::LENGTH }>(parsed.transport.offset)?;
    let priority: u8 = message.load(vrrp::PRIORITY);
    let is_advert = message.load::<u8>(vrrp::VERSION_TYPE) & 0xf == vrrp::ADVERTISEMENT;
    if !is_advert {
        return Err(Outcome::NotOurs);
    }
    let router = find(packet, parsed, message.load::<u8>(vrrp::ROUTER))?;
    // SAFETY: within the value of the map; the word is written whole.
    let version = unsafe { core::ptr::read_volatile(&raw const (*router).version) };
    if (message.load::<u8>(vrrp::VERSION_TYPE) >> 4) as u64 != version {
        return Err(Outcome::NotOurs);
    }
    let mac = sender(packet)?;
    let from = F::widen(&parsed.key.source);
    if !router_mac::is_router(mac) {
        note_mac(router, mac);
    } else if priority != 0 && !is_heard(router, &from) {
        // Its own address is not in its adverts, but in its questions and answers.
        note_mac(router, 0);
    }
    if priority != 0 {
        // SAFETY: within the value; the packet path alone writes these fields, each whole, and the last advert counts.
        unsafe {
            let mut i = 0;
            while i < from.len() {
                core::ptr::write_volatile((&raw mut (*router).heard_from[0]).add(i), from[i]);
                i += 1;
            }
            core::ptr::write_volatile(&raw mut (*router).heard_priority, priority as u32);
            core::ptr::write_volatile(&raw mut (*router).heard, now());
        }
    }
    Err(Outcome::NotOurs)
}

/// Notes whose frames come from which link-layer address.
#[inline(always)]
fn note_mac(router: *mut VirtualRouter, mac: u64) {
    // SAFETY: within the value; the packet path alone writes the field, whole.
    unsafe { core::ptr::write_volatile(&raw mut (*router).heard_mac, mac) };
}

/// Whether that balancer's advert came last.
#[inline(always)]
fn is_heard(router: *mut VirtualRouter, from: &[u32; 4]) -> bool {
    let mut differs = 0;
    let mut i = 0;
    while i < from.len() {
        // SAFETY: within the value; each word is written whole.
        differs |= from[i] ^ unsafe { core::ptr::read_volatile((&raw const (*router).heard_from[0]).add(i)) };
        i += 1;
    }
    differs == 0
}

/// Turns the question of another balancer around, with what is known of the lease.
#[inline(always)]
fn question<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    const WHOLE: usize = udp::LENGTH + echo::LENGTH;
    let datagram = packet.window::<WHOLE>(parsed.transport.offset)?;
    let kind: u8 = datagram.load(udp::LENGTH + echo::KIND);
    let port = match kind {
        echo::ASKS => udp::DESTINATION_PORT,
        _ => udp::SOURCE_PORT,
    };
    let is_echo = datagram.load::<u16>(port) == echo::PORT.to_be()
        && datagram.load::<u16>(udp::LENGTH_FIELD) == (WHOLE as u16).to_be()
        && datagram.load::<u32>(udp::LENGTH + echo::MAGIC_FIELD) == echo::MAGIC.to_be()
        && datagram.load::<u8>(udp::LENGTH + echo::FAMILY) == F::NUMBER;
    if !is_echo {
        return Err(Outcome::NotOurs);
    }
    let number: u8 = datagram.load(udp::LENGTH + echo::ROUTER);
    let router = find(packet, parsed, number)?;
    if is_heard(router, &F::widen(&parsed.key.source)) {
        note_mac(router, sender(packet)?);
    }
    if kind != echo::ASKS {
        return Err(Outcome::NotOurs);
    }
    let router = read_router(router);
    let now = now();
    let age = now.saturating_sub(router.renewed);

    let words = [
        (
            echo::KIND,
            u32::from_ne_bytes([echo::ANSWERS, number, F::NUMBER, router.answers(now) as u8]),
        ),
        (echo::AGE, ((age >> 32) as u32).to_be()),
        (echo::AGE + 4, (age as u32).to_be()),
    ];
    let mut delta = Delta::NONE;
    let mut i = 0;
    while i < words.len() {
        let (offset, new) = words[i];
        delta.word32(datagram.load(udp::LENGTH + offset), new);
        datagram.store(udp::LENGTH + offset, new);
        i += 1;
    }
    datagram.store(udp::CHECKSUM, delta.apply_udp(datagram.load(udp::CHECKSUM)));
    // Addresses and ports that change places change no checksum.
    let ports: u32 = datagram.load(udp::SOURCE_PORT);
    datagram.store(udp::SOURCE_PORT, ports.rotate_left(16));
    swap_addresses(packet, parsed)?;
    emit::turn_around(packet)?;
    Ok(Outcome::EchoAnswered)
}

#[inline(always)]
fn swap_addresses<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<(), Outcome> {
    let (source, destination) = (F::widen(&parsed.key.source), F::widen(&parsed.key.destination));
    if F::NUMBER == V4::NUMBER {
        let header = packet.window::<{ ipv4::LENGTH }>(parsed.transport.l3)?;
        header.store(ipv4::SOURCE, destination[0]);
        header.store(ipv4::DESTINATION, source[0]);
        return Ok(());
    }
    let header = packet.window::<{ ipv6::LENGTH }>(parsed.transport.l3)?;
    let mut i = 0;
    while i < source.len() {
        header.store(ipv6::SOURCE + 4 * i, destination[i]);
        header.store(ipv6::DESTINATION + 4 * i, source[i]);
        i += 1;
    }
    Ok(())
}

/// The virtual router of a packet of this family.
#[inline(always)]
fn find<F: Stages>(packet: &Packet, parsed: &Parsed<F>, router: u8) -> Result<*mut VirtualRouter, Outcome> {
    let key = RouterKey {
        interface: packet.interface(),
        tags: parsed.tags.0 & Tags::VLANS,
        router: router as u16,
        family: F::NUMBER as u16,
    };
    // SAFETY: the value is one word that the controller writes whole.
    let index = unsafe { ROUTER_IDS.get(key) }.ok_or(Outcome::NotOurs)?;
    VIRTUAL_ROUTERS.get_ptr_mut(*index).ok_or(Outcome::NotOurs)
}

/// What decides who answers.
#[inline(always)]
fn read_router(router: *mut VirtualRouter) -> VirtualRouter {
    // SAFETY: within the value of the map, as the look-up says; each word is written whole.
    unsafe {
        VirtualRouter {
            renewed: core::ptr::read_volatile(&raw const (*router).renewed),
            until: core::ptr::read_volatile(&raw const (*router).until),
            patience: core::ptr::read_volatile(&raw const (*router).patience),
            heard: core::ptr::read_volatile(&raw const (*router).heard),
            heard_mac: core::ptr::read_volatile(&raw const (*router).heard_mac),
            relay_until: core::ptr::read_volatile(&raw const (*router).relay_until),
            ..VirtualRouter::ZERO
        }
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}
