//! The IPv4 header (RFC 791).

use aya_ebpf::bindings::bpf_fib_lookup;
use lb_common::{
    Outcome, V4,
    checksum::{self, Delta},
    wire::{eth, icmp, ipv4},
};

use super::headers::{FRESH_TTL, Headers};
use crate::packet::{
    Packet, Window,
    parsed::{Parsed, Transport},
};

const AF_INET: u8 = 2;

impl Headers for V4 {
    const ETHER_TYPE: u16 = eth::IPV4.to_be();
    const ICMP: u8 = icmp::PROTOCOL;

    #[inline(always)]
    fn parse_ip(packet: &Packet, l3: usize, parsed: &mut Parsed<Self>) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        let version_ihl: u8 = header.load(ipv4::VERSION_IHL);
        let header_length = (version_ihl & 0xf) as usize * 4;
        if version_ihl >> 4 != 4 || header_length < ipv4::LENGTH {
            return Err(Outcome::Malformed);
        }
        let total = u16::from_be(header.load::<u16>(ipv4::TOTAL_LENGTH)) as usize;
        if total < header_length || l3 + total > packet.length() {
            return Err(Outcome::Malformed);
        }
        parsed.transport = Transport {
            l3,
            offset: l3 + header_length,
            length: total - header_length,
            packet_length: total,
            ttl: header.load(ipv4::TTL),
            fragment: u16::from_be(header.load::<u16>(ipv4::FRAGMENT)) & ipv4::FRAGMENT_MASK,
            identification: header.load::<u16>(ipv4::IDENTIFICATION) as u32,
        };
        parsed.key.source = [header.load(ipv4::SOURCE)];
        parsed.key.destination = [header.load(ipv4::DESTINATION)];
        parsed.key.protocol = header.load(ipv4::PROTOCOL);
        Ok(())
    }

    #[inline(always)]
    fn has_extensions(_protocol: u8) -> bool {
        false
    }

    #[inline(always)]
    fn network(address: &[u32; 1]) -> [u32; 1] {
        *address
    }

    #[inline(always)]
    fn is_first_fragment(transport: &Transport) -> bool {
        transport.fragment & 0x1fff == 0
    }

    #[inline(always)]
    fn write_ip(
        packet: &Packet,
        l3: usize,
        source: &[u32; 1],
        destination: &[u32; 1],
        addresses: Delta,
    ) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        let ttl_protocol: u16 = header.load(ipv4::TTL);
        let decremented = u16::from_be(ttl_protocol).wrapping_sub(0x0100).to_be();
        let mut delta = addresses;
        delta.word16(ttl_protocol, decremented);
        header.store(ipv4::TTL, decremented);
        header.store(ipv4::CHECKSUM, delta.apply(header.load(ipv4::CHECKSUM)));
        header.store(ipv4::SOURCE, source[0]);
        header.store(ipv4::DESTINATION, destination[0]);
        Ok(())
    }

    #[inline(always)]
    fn hop_down(packet: &Packet, l3: usize) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        let ttl_protocol: u16 = header.load(ipv4::TTL);
        let decremented = u16::from_be(ttl_protocol).wrapping_sub(0x0100).to_be();
        let mut delta = Delta::NONE;
        delta.word16(ttl_protocol, decremented);
        header.store(ipv4::TTL, decremented);
        header.store(ipv4::CHECKSUM, delta.apply(header.load(ipv4::CHECKSUM)));
        Ok(())
    }

    #[inline(always)]
    fn quoted(packet: &Packet, l3: usize) -> Result<([u32; 1], [u32; 1], u8, usize), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        let version_ihl: u8 = header.load(ipv4::VERSION_IHL);
        let length = (version_ihl & 0xf) as usize * 4;
        let fragment = u16::from_be(header.load::<u16>(ipv4::FRAGMENT));
        if version_ihl >> 4 != 4 || length < ipv4::LENGTH || fragment & 0x1fff != 0 {
            return Err(Outcome::Malformed);
        }
        Ok((
            [header.load(ipv4::SOURCE)],
            [header.load(ipv4::DESTINATION)],
            header.load(ipv4::PROTOCOL),
            length,
        ))
    }

    #[inline(always)]
    fn write_quoted(
        packet: &Packet,
        l3: usize,
        source: &[u32; 1],
        destination: &[u32; 1],
        addresses: Delta,
        message: &mut Delta,
    ) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        let old = header.load(ipv4::CHECKSUM);
        let new = addresses.apply(old);
        header.store(ipv4::CHECKSUM, new);
        header.store(ipv4::SOURCE, source[0]);
        header.store(ipv4::DESTINATION, destination[0]);
        message.word16(old, new);
        Ok(())
    }

    #[inline(always)]
    fn write_fresh_ip(
        packet: &Packet,
        l3: usize,
        source: &[u32; 1],
        destination: &[u32; 1],
        protocol: u8,
        payload: u16,
    ) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        let version_length = 0x45_u32 | ((ipv4::LENGTH as u16 + payload).to_be() as u32) << 16;
        let fragment = (ipv4::DONT_FRAGMENT.to_be() as u32) << 16;
        let ttl_protocol = FRESH_TTL as u32 | (protocol as u32) << 8;
        let sum =
            version_length as u64 + fragment as u64 + ttl_protocol as u64 + source[0] as u64 + destination[0] as u64;
        header.store(ipv4::VERSION_IHL, version_length);
        header.store(ipv4::IDENTIFICATION, fragment);
        header.store(ipv4::TTL, ttl_protocol | (!checksum::fold(sum) as u32) << 16);
        header.store(ipv4::SOURCE, source[0]);
        header.store(ipv4::DESTINATION, destination[0]);
        Ok(())
    }

    #[inline(always)]
    fn route(packet: &Packet, l3: usize, lookup: &mut bpf_fib_lookup) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3)?;
        lookup.family = AF_INET;
        lookup.l4_protocol = header.load(ipv4::PROTOCOL);
        lookup.__bindgen_anon_3.ipv4_src = header.load(ipv4::SOURCE);
        lookup.__bindgen_anon_4.ipv4_dst = header.load(ipv4::DESTINATION);
        Ok(())
    }
}
