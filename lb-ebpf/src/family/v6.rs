//! The IPv6 header (RFC 8200).

use aya_ebpf::bindings::bpf_fib_lookup;
use lb_common::{
    Outcome, V6,
    checksum::Delta,
    wire::{eth, icmp, ipv6},
};

use super::headers::{FRESH_TTL, Headers};
use crate::packet::{
    Packet, Window,
    parsed::{Parsed, Transport},
};

const AF_INET6: u8 = 10;

impl Headers for V6 {
    const ETHER_TYPE: u16 = eth::IPV6.to_be();
    const ICMP: u8 = icmp::PROTOCOL_V6;

    #[inline(always)]
    fn parse_ip(packet: &Packet, l3: usize, parsed: &mut Parsed<Self>) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        if header.load::<u8>(ipv6::VERSION) >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        let payload = u16::from_be(header.load::<u16>(ipv6::PAYLOAD_LENGTH)) as usize;
        if l3 + ipv6::LENGTH + payload > packet.length() {
            return Err(Outcome::Malformed);
        }
        parsed.transport = Transport {
            l3,
            offset: l3 + ipv6::LENGTH,
            length: payload,
            packet_length: ipv6::LENGTH + payload,
            ttl: header.load(ipv6::HOP_LIMIT),
            fragment: 0,
            identification: 0,
        };
        parsed.key.source = load_v6(&header, ipv6::SOURCE);
        parsed.key.destination = load_v6(&header, ipv6::DESTINATION);
        parsed.key.protocol = header.load(ipv6::NEXT_HEADER);
        Ok(())
    }

    #[inline(always)]
    fn has_extensions(protocol: u8) -> bool {
        matches!(
            protocol,
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::FRAGMENT | ipv6::AUTHENTICATION | ipv6::DESTINATION_OPTIONS
        )
    }

    #[inline(always)]
    fn network(address: &[u32; 4]) -> [u32; 4] {
        [address[0], address[1], 0, 0]
    }

    #[inline(always)]
    fn is_first_fragment(transport: &Transport) -> bool {
        transport.fragment & !7 == 0
    }

    #[inline(always)]
    fn write_ip(
        packet: &Packet,
        l3: usize,
        source: &[u32; 4],
        destination: &[u32; 4],
        _addresses: Delta,
    ) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        header.store(ipv6::HOP_LIMIT, header.load::<u8>(ipv6::HOP_LIMIT).wrapping_sub(1));
        store_v6(&header, ipv6::SOURCE, source);
        store_v6(&header, ipv6::DESTINATION, destination);
        Ok(())
    }

    #[inline(always)]
    fn hop_down(packet: &Packet, l3: usize) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        header.store(ipv6::HOP_LIMIT, header.load::<u8>(ipv6::HOP_LIMIT).wrapping_sub(1));
        Ok(())
    }

    #[inline(always)]
    fn quoted(packet: &Packet, l3: usize) -> Result<([u32; 4], [u32; 4], u8, usize), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        if header.load::<u8>(ipv6::VERSION) >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        let protocol = header.load(ipv6::NEXT_HEADER);
        let (source, destination) = (load_v6(&header, ipv6::SOURCE), load_v6(&header, ipv6::DESTINATION));
        Ok((source, destination, protocol, ipv6::LENGTH))
    }

    #[inline(always)]
    fn write_quoted(
        packet: &Packet,
        l3: usize,
        source: &[u32; 4],
        destination: &[u32; 4],
        _addresses: Delta,
        _message: &mut Delta,
    ) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        store_v6(&header, ipv6::SOURCE, source);
        store_v6(&header, ipv6::DESTINATION, destination);
        Ok(())
    }

    #[inline(always)]
    fn write_fresh_ip(
        packet: &Packet,
        l3: usize,
        source: &[u32; 4],
        destination: &[u32; 4],
        protocol: u8,
        payload: u16,
    ) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        header.store(0, 0x6000_0000_u32.to_be());
        let length_protocol_ttl = payload.to_be() as u32 | (protocol as u32) << 16 | (FRESH_TTL as u32) << 24;
        header.store(ipv6::PAYLOAD_LENGTH, length_protocol_ttl);
        store_v6(&header, ipv6::SOURCE, source);
        store_v6(&header, ipv6::DESTINATION, destination);
        Ok(())
    }

    #[inline(always)]
    fn route(packet: &Packet, l3: usize, lookup: &mut bpf_fib_lookup) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3)?;
        lookup.family = AF_INET6;
        lookup.l4_protocol = header.load(ipv6::NEXT_HEADER);
        lookup.__bindgen_anon_3.ipv6_src = load_v6(&header, ipv6::SOURCE);
        lookup.__bindgen_anon_4.ipv6_dst = load_v6(&header, ipv6::DESTINATION);
        Ok(())
    }
}

#[inline(always)]
fn load_v6(header: &Window<{ ipv6::LENGTH }>, offset: usize) -> [u32; 4] {
    [
        header.load(offset),
        header.load(offset + 4),
        header.load(offset + 8),
        header.load(offset + 12),
    ]
}

#[inline(always)]
fn store_v6(header: &Window<{ ipv6::LENGTH }>, offset: usize, address: &[u32; 4]) {
    header.store(offset, address[0]);
    header.store(offset + 4, address[1]);
    header.store(offset + 8, address[2]);
    header.store(offset + 12, address[3]);
}
