//! A parsed packet: 5-tuple, offsets and lengths, TCP flags.

use lb_common::{
    AddressClass, Family, FlowKey, Outcome, Ports, Tags,
    wire::{tcp, udp},
};

use super::Packet;

/// The transport part of a packet, from the IP header and its extension headers.
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
    /// The fragment word, in the host's byte order: not zero in a fragment. The family decides
    /// where the offset is, see `Headers::is_first_fragment`.
    pub fragment: u16,
    /// Identification of a fragment's packet, in network byte order.
    pub identification: u32,
}

/// A packet as far as it is parsed: first the IP header, with ports of zero, then the TCP or UDP
/// header.
pub struct Parsed<F: Family> {
    /// Its 5-tuple.
    pub key: FlowKey<F>,
    /// Offsets and lengths.
    pub transport: Transport,
    /// VLAN tags of the frame.
    pub tags: Tags,
    /// TCP control bits; `flow::UDP` for a datagram; ACK for a later fragment of a segment.
    pub flags: u8,
    /// Whether the packet has a transport header. Later fragments have none.
    pub has_header: bool,
    /// Class of its destination. The bit `WORKER` also says it of its source.
    pub class: AddressClass,
}

impl<F: Family> Parsed<F> {
    /// Nothing parsed.
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

    /// Whether it requests a new connection: SYN without ACK, RST and FIN.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// Whether it is a UDP datagram.
    #[inline(always)]
    pub fn is_udp(&self) -> bool {
        self.key.protocol == udp::PROTOCOL
    }
}

/// Reads the transport header.
#[inline(always)]
pub fn transport<F: Family>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    match parsed.key.protocol {
        tcp::PROTOCOL => tcp_header(packet, parsed),
        udp::PROTOCOL => udp_header(packet, parsed),
        _ => Err(Outcome::NotTcpUdp),
    }
}

#[inline(always)]
fn tcp_header<F: Family>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
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
fn udp_header<F: Family>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    let header = packet.window::<{ udp::LENGTH }>(parsed.transport.offset)?;
    let length = u16::from_be(header.load(udp::LENGTH_FIELD)) as usize;
    let available = parsed.transport.length;
    // The first fragment carries the length of the whole datagram.
    if length < udp::LENGTH || available < udp::LENGTH || length > available && parsed.transport.fragment == 0 {
        return Err(Outcome::Malformed);
    }
    parsed.key.ports = Ports(header.load(udp::SOURCE_PORT));
    Ok(())
}
