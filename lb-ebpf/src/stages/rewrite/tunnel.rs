//! Tunnels: the packet travels inside another one. Only its hop limit changes.
//!
//! `ipip` is IP in IP (RFC 2003, RFC 2473, RFC 4213); `gue` is generic UDP encapsulation, variant 1
//! (draft-ietf-intarea-gue, section 4: "direct encapsulation of IPv4 and IPv6"), in which the
//! packet follows the UDP header directly.

use lb_common::{
    Backend, Family, Mode, NextHop, Outcome, Ports, Tags, V4, V6,
    checksum::Delta,
    wire::{eth, ipv4, ipv6, udp},
};

use crate::{
    family::Headers,
    packet::{
        Packet, frame,
        parsed::{Parsed, Transport},
    },
    stages::emit,
};

const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;

/// Writes an outer header and the frame's header for `hop` before the packet. Returns the offset of
/// the outer header.
#[inline(always)]
pub fn encapsulate<F: Headers>(
    packet: &Packet,
    parsed: &Parsed<F>,
    backend: &Backend,
    mode: Mode,
    hop: &NextHop,
) -> Result<usize, Outcome> {
    let transport = &parsed.transport;
    let spread = spread::<F>(&parsed.key.source, parsed.key.ports);
    // RFC 2003, section 3.1: "the TTL in the inner IP header is decremented by one".
    if transport.ttl <= 1 {
        return Err(Outcome::TtlExceeded);
    }
    F::hop_down(packet, transport.l3)?;
    let class = traffic_class::<F>(packet, transport)?;
    let is_gue = matches!(mode, Mode::Gue);
    let (protocol, payload) = if is_gue {
        (udp::PROTOCOL, transport.packet_length + udp::LENGTH)
    } else {
        (
            if F::NUMBER == V6::NUMBER { IPV6_IN_IP } else { IPIP },
            transport.packet_length,
        )
    };
    let overhead = backend.overhead as usize;
    let l3 = eth::LENGTH + eth::TAG * hop.tags.count();
    packet.grow_front((overhead + l3) as i32 - transport.l3 as i32)?;
    let offset = if backend.status.family() == V6::NUMBER {
        frame::write_header(packet, hop, V6::ETHER_TYPE)?;
        let mut source = backend.tunnel_source;
        source[3] |= spread & backend.tunnel_spread;
        V6::write_fresh_ip(packet, l3, &source, &backend.address, protocol, payload as u16)?;
        // RFC 6438, section 3: the flow label distinguishes the flows of a tunnel.
        let label = (class as u32) << 20 | spread & 0xf_ffff;
        packet.window::<4>(l3)?.store(0, (0x6000_0000 | label).to_be());
        l3 + ipv6::LENGTH
    } else {
        frame::write_header(packet, hop, V4::ETHER_TYPE)?;
        let source = [backend.tunnel_source[0] | spread & backend.tunnel_spread];
        V4::write_fresh_ip(packet, l3, &source, &[backend.address[0]], protocol, payload as u16)?;
        let header = packet.window::<{ ipv4::LENGTH }>(l3)?;
        header.store(ipv4::VERSION_IHL + 1, class);
        // The class is the lower half of the header's first word.
        let mut delta = Delta::NONE;
        delta.word16(0, (class as u16).to_be());
        header.store(ipv4::CHECKSUM, delta.apply(header.load(ipv4::CHECKSUM)));
        l3 + ipv4::LENGTH
    };
    if is_gue {
        let header = packet.window::<{ udp::LENGTH }>(offset)?;
        // RFC 6335, section 6: the dynamic ports.
        header.store(udp::SOURCE_PORT, (0xc000 | spread as u16).to_be());
        header.store(udp::DESTINATION_PORT, backend.tunnel_port.memory());
        header.store(udp::LENGTH_FIELD, (payload as u16).to_be());
        // RFC 6935, section 5: a tunnel may send zero for no checksum, because the inner packet has
        // its own.
        header.store(udp::CHECKSUM, 0_u16);
    }
    Ok(l3)
}

/// A hash of the flow for outer addresses and ports: it spreads flows over the receive queues of
/// workers.
#[inline(always)]
fn spread<F: Headers>(client: &F::Address, ports: Ports) -> u32 {
    let source = client.as_ref();
    let mixed = (source[source.len() - 1] ^ ports.0).wrapping_mul(0x9e37_79b1);
    mixed ^ mixed >> 15
}

/// The packet's traffic class, which is copied to the outer header (RFC 2983, section 4.1; RFC
/// 6040, section 4.1).
#[inline(always)]
fn traffic_class<F: Headers>(packet: &Packet, transport: &Transport) -> Result<u8, Outcome> {
    let header = packet.window::<2>(transport.l3)?;
    Ok(if F::NUMBER == V6::NUMBER {
        (u16::from_be(header.load(0)) >> 4) as u8
    } else {
        header.load(ipv4::VERSION_IHL + 1)
    })
}

/// Sends an encapsulated packet with an unresolved next hop.
#[inline(always)]
pub fn unresolved(packet: &Packet, backend: &Backend, l3: usize, length: usize) -> Outcome {
    if backend.status.family() == V6::NUMBER {
        emit::unresolved::<V6>(packet, l3, length, Tags::NONE)
    } else {
        emit::unresolved::<V4>(packet, l3, length, Tags::NONE)
    }
}
