//! Parse: from bytes to a 5-tuple, or to the reason why the packet is none of ours.

use lb_common::{
    Be16, FlowKey, Outcome,
    wire::{eth, tcp, udp},
};

use crate::{family::Stages, packet::Packet};

/// Offset of the IP header.
pub const L3: usize = eth::LENGTH;

/// What the IP header says of the transport header.
pub struct Transport {
    /// Offset of the transport header in the frame.
    pub offset: usize,
    /// Length of transport header and payload.
    pub length: usize,
    /// Length of the whole packet, from the IP header on.
    pub packet_length: usize,
    /// IP protocol.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// A TCP segment or UDP datagram.
pub struct Parsed<F: Stages> {
    /// Its 5-tuple.
    pub key: FlowKey<F>,
    /// Where and how long it is.
    pub transport: Transport,
    /// TCP control bits; `flow::UDP` for a datagram.
    pub flags: u8,
}

impl<F: Stages> Parsed<F> {
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

/// The type of the frame's payload, in the host's byte order.
#[inline(always)]
pub fn ether_type(packet: &Packet) -> Result<u16, Outcome> {
    Ok(u16::from_be(packet.window::<{ eth::LENGTH }>(0)?.load(eth::TYPE)))
}

/// Reads IP and transport header.
#[inline(always)]
pub fn parse<F: Stages>(packet: &Packet) -> Result<Parsed<F>, Outcome> {
    let (source, destination, transport) = F::parse_ip(packet)?;
    let (ports, flags) = match transport.protocol {
        tcp::PROTOCOL => tcp_header(packet, &transport)?,
        udp::PROTOCOL => udp_header(packet, &transport)?,
        _ => return Err(Outcome::NotTcpUdp),
    };
    let key = FlowKey {
        source,
        destination,
        source_port: ports.0,
        destination_port: ports.1,
        protocol: transport.protocol,
        reserved: [0; 3],
    };
    Ok(Parsed { key, transport, flags })
}

type Ports = (Be16, Be16);

#[inline(always)]
fn tcp_header(packet: &Packet, transport: &Transport) -> Result<(Ports, u8), Outcome> {
    let header = packet.window::<{ tcp::LENGTH }>(transport.offset)?;
    let header_length = (header.load::<u8>(tcp::DATA_OFFSET) >> 4) as usize * 4;
    if header_length < tcp::LENGTH || header_length > transport.length {
        return Err(Outcome::Malformed);
    }
    let source = Be16::from_memory(header.load(tcp::SOURCE_PORT));
    let destination = Be16::from_memory(header.load(tcp::DESTINATION_PORT));
    Ok(((source, destination), header.load(tcp::FLAGS)))
}

#[inline(always)]
fn udp_header(packet: &Packet, transport: &Transport) -> Result<(Ports, u8), Outcome> {
    let header = packet.window::<{ udp::LENGTH }>(transport.offset)?;
    let length = u16::from_be(header.load(udp::LENGTH_FIELD)) as usize;
    if length < udp::LENGTH || length > transport.length {
        return Err(Outcome::Malformed);
    }
    let source = Be16::from_memory(header.load(udp::SOURCE_PORT));
    let destination = Be16::from_memory(header.load(udp::DESTINATION_PORT));
    Ok(((source, destination), lb_common::flow::UDP))
}
