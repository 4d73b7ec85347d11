//! Parse: from bytes to a 5-tuple, or to the reason why the packet is none of ours.

use lb_common::{
    AddressClass, FlowKey, Outcome, Ports, Tags,
    wire::{eth, tcp, udp},
};

use crate::{
    cells::opaque,
    family::Stages,
    packet::{Packet, Window},
};

/// What stands before the IP header.
#[derive(Clone, Copy)]
pub struct Link {
    /// Type of the payload, in network byte order.
    pub kind: u16,
    /// Offset of the IP header.
    pub l3: usize,
    /// VLAN tags.
    pub tags: Tags,
}

/// What the IP header and its extensions say.
#[derive(Clone, Copy)]
pub struct Transport {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header in the frame.
    pub offset: usize,
    /// Length of transport header and payload in this packet.
    pub length: usize,
    /// Length of the whole packet, from the IP header on.
    pub packet_length: usize,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The fragment word, in the host's byte order: not zero in a fragment. The offset is in its upper or lower bits by
    /// family, see [`Stages::is_first_fragment`].
    pub fragment: u16,
    /// Identification of a fragment's packet, as it lies in memory.
    pub identification: u32,
}

/// A packet as far as it was read: an IP packet first, whose ports are zero, then a TCP segment or UDP datagram.
pub struct Parsed<F: Stages> {
    /// Its 5-tuple.
    pub key: FlowKey<F>,
    /// Where and how long it is.
    pub transport: Transport,
    /// VLAN tags of the frame.
    pub tags: Tags,
    /// TCP control bits; `flow::UDP` for a datagram; ACK for a later fragment of a segment.
    pub flags: u8,
    /// Whether the transport header is in this packet: not in later fragments.
    pub has_header: bool,
    /// What its destination, or else its source may be.
    pub class: AddressClass,
}

impl<F: Stages> Parsed<F> {
    /// Nothing yet.
    pub const BLANK: Self = Self {
        key: FlowKey::ZERO,
        transport: Transport {
            l3: 0,
            offset: 0,
            length: 0,
            packet_length: 0,
            ttl: 0,
            fragment: 0,
            identification: 0,
        },
        tags: Tags::NONE,
        flags: lb_common::flow::UDP,
        has_header: true,
        class: AddressClass(0),
    };

    /// Whether it asks for a new connection: SYN and nothing that contradicts it.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// Whether it is a datagram.
    #[inline(always)]
    pub fn is_udp(&self) -> bool {
        self.key.protocol == udp::PROTOCOL
    }
}

/// Reads the frame's header: up to two VLAN tags are walked over, without a branch, so that the offset of the IP header
/// is one number to the verifier and not three programs.
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

/// Reads the transport header.
#[inline(always)]
pub fn transport<F: Stages>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    match parsed.key.protocol {
        tcp::PROTOCOL => tcp_header(packet, parsed),
        udp::PROTOCOL => udp_header(packet, parsed),
        _ => Err(Outcome::NotTcpUdp),
    }
}

#[inline(always)]
fn tcp_header<F: Stages>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    let header = packet.window::<{ tcp::LENGTH }>(parsed.transport.offset)?;
    let header_length = (header.load::<u8>(tcp::DATA_OFFSET) >> 4) as usize * 4;
    if header_length < tcp::LENGTH || header_length > parsed.transport.length {
        return Err(Outcome::Malformed);
    }
    parsed.key.ports = Ports(header.load(tcp::SOURCE_PORT));
    parsed.flags = header.load(tcp::FLAGS);
    Ok(())
}

#[inline(always)]
fn udp_header<F: Stages>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    let header = packet.window::<{ udp::LENGTH }>(parsed.transport.offset)?;
    let length = u16::from_be(header.load(udp::LENGTH_FIELD)) as usize;
    let there = parsed.transport.length;
    // The first fragment carries the length of the whole datagram.
    if length < udp::LENGTH || there < udp::LENGTH || length > there && parsed.transport.fragment == 0 {
        return Err(Outcome::Malformed);
    }
    parsed.key.ports = Ports(header.load(udp::SOURCE_PORT));
    Ok(())
}
