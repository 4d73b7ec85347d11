//! Packets whose transport header does not follow the fixed IP header: IPv6 extension headers,
//! fragments. And ICMP.

use lb_common::{
    Outcome,
    fragment::{FragmentKey, FragmentPorts},
    wire::{ipv6, tcp, udp},
};

use crate::{
    bpf::number::Next,
    family::{Ip, subprogram::subprogram},
    flow::scratch::scratch,
    packet::{
        Packet,
        parsed::{self, Parsed},
    },
};

subprogram! {
    /// Parses the rest of the packet in the scratch memory, after the fixed IP header. An ICMP
    /// message itself is not parsed.
    pub fn read_extensions<F>(packet: Packet) -> Result<Next, Outcome> = read;
}

#[inline(always)]
fn read<F: Ip>(packet: &Packet) -> Result<Next, Outcome> {
    let scratch = scratch::<F>().ok_or(Outcome::Inconsistent)?;
    parse(packet, &mut scratch.parsed)?;
    Ok(Next::Continue)
}

#[inline(always)]
fn parse<F: Ip>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    if F::has_extensions(parsed.key.protocol) {
        extensions(packet, parsed)?;
    }
    if parsed.transport.fragment != 0 {
        return fragment(packet, parsed);
    }
    if parsed.key.protocol == F::ICMP {
        return Ok(());
    }
    parsed::transport(packet, parsed)
}

/// Skips IPv6 extension headers (RFC 8200, section 4).
#[inline(always)]
fn extensions<F: Ip>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
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
        // A later fragment has data next.
        if transport.fragment & !7 != 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Keeps the ports of the first fragment; gives them to later ones.
#[inline(always)]
fn fragment<F: Ip>(packet: &Packet, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    let key = FragmentKey::<F> {
        source: parsed.key.source,
        destination: parsed.key.destination,
        identification: parsed.transport.identification,
        protocol: parsed.key.protocol,
        reserved: [0; 3],
    };
    if F::is_first_fragment(&parsed.transport) {
        parsed::transport(packet, parsed)?;
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
