//! Packets whose transport header is not right behind the fixed IP header, or is no TCP or UDP header: fragments, IPv6
//! extension headers, ICMP.

use lb_common::{
    Outcome,
    fragment::{FragmentKey, FragmentPorts},
    wire::{ipv6, tcp, udp},
};

use crate::{
    family::Stages,
    packet::Packet,
    parse::{self, Parsed},
    slow::step,
};

/// Reads of the packet in the room what [`parse::transport`] does not; of ICMP only that it is.
#[inline(always)]
pub fn read<F: Stages>(packet: &Packet) -> u32 {
    step(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        examine(packet, &mut room.parsed)?;
        Ok(None)
    })
}

#[inline(always)]
fn examine<F: Stages>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    if F::has_extensions(parsed.key.protocol) {
        extensions(packet, parsed)?;
    }
    if parsed.transport.fragment != 0 {
        return fragment(packet, parsed);
    }
    if parsed.key.protocol == F::ICMP {
        return Ok(());
    }
    parse::transport(packet, parsed)
}

/// Walks over IPv6 extension headers (RFC 8200, section 4).
#[inline(always)]
fn extensions<F: Stages>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    let Parsed { key, transport, .. } = parsed;
    for _ in 0..ipv6::MAX_EXTENSIONS {
        let length = match key.protocol {
            ipv6::FRAGMENT => 8,
            // "Length of the [...] header in 8-octet units, not including the first 8 octets."
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                let header = packet.window::<8>(transport.offset)?;
                8 + header.load::<u8>(1) as usize * 8
            }
            // RFC 4302, section 2.2: "in 32-bit words (4-byte units), minus '2'".
            ipv6::AUTHENTICATION => {
                let header = packet.window::<8>(transport.offset)?;
                8 + header.load::<u8>(1) as usize * 4
            }
            _ => return Ok(()),
        };
        if length > transport.length {
            return Err(Outcome::Malformed);
        }
        let header = packet.window::<8>(transport.offset)?;
        if key.protocol == ipv6::FRAGMENT {
            transport.fragment = u16::from_be(header.load(2)) & ipv6::FRAGMENT_MASK;
            transport.identification = header.load(4);
        }
        key.protocol = header.load(0);
        transport.offset += length;
        transport.length -= length;
        // What follows in a later fragment is data.
        if transport.fragment & !7 != 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// The first fragment leaves its ports behind for those that follow.
#[inline(always)]
fn fragment<F: Stages>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    let key = FragmentKey::<F> {
        source: parsed.key.source,
        destination: parsed.key.destination,
        identification: parsed.transport.identification,
        protocol: parsed.key.protocol,
        reserved: [0; 3],
    };
    if F::is_first_fragment(&parsed.transport) {
        parse::transport(packet, parsed)?;
        let ports = FragmentPorts {
            ports: parsed.key.ports,
            reserved: 0,
        };
        F::set_fragment(&key, &ports);
        return Ok(());
    }
    parsed.key.ports = match parsed.key.protocol {
        tcp::PROTOCOL | udp::PROTOCOL => F::fragment(&key).ok_or(Outcome::FragmentUnknown)?.ports,
        _ => return Err(Outcome::NotTcpUdp),
    };
    parsed.has_header = false;
    if parsed.key.protocol == tcp::PROTOCOL {
        parsed.flags = tcp::ACK;
    }
    Ok(())
}
