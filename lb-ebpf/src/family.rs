//! What the stages need of an address family beyond its types: its maps, and where its header keeps things.

use aya_ebpf::bindings::bpf_fib_lookup;
use lb_common::{
    Family, Flow, FlowKey, ServiceKey, V4, V6,
    checksum::Delta,
    wire::{ipv4, ipv6},
};

use crate::{
    maps::{DRAFT_V4, DRAFT_V6, FLOWS_V4, FLOWS_V6, SERVICES_V4, SERVICES_V6},
    packet::{Packet, Window},
    parse::{self, Transport},
    track::Draft,
};
use lb_common::Outcome;

/// An address family in the packet path.
pub trait Stages: Family {
    /// Reads the IP header.
    fn parse_ip(packet: &Packet) -> Result<(Self::Address, Self::Address, Transport), Outcome>;

    /// Writes both addresses and one hop less, with the header's own checksum. `addresses` is the change that the
    /// addresses make to a checksum. The transport header is not touched.
    fn write_ip(packet: &Packet, rewrite: &FlowKey<Self>, addresses: Delta) -> Result<(), Outcome>;

    /// Writes a whole IP header without options around a TCP segment of `tcp::LENGTH` bytes.
    fn write_fresh_ip(packet: &Packet, source: &Self::Address, destination: &Self::Address) -> Result<(), Outcome>;

    /// Fills the parts of a route look-up that depend on the family.
    fn route(lookup: &mut bpf_fib_lookup, key: &FlowKey<Self>);

    fn flow_find(key: &FlowKey<Self>) -> Option<*mut Flow<Self>>;
    fn flow_insert(key: &FlowKey<Self>, flow: &Flow<Self>, flags: u64) -> Result<(), i32>;
    fn flow_remove(key: &FlowKey<Self>) -> bool;
    fn service(key: &ServiceKey<Self>) -> Option<u32>;

    /// Room of this CPU for a new flow.
    fn draft() -> Option<&'static mut Draft<Self>>;
}

macro_rules! tables {
    ($flows:ident, $services:ident, $draft:ident) => {
        #[inline(always)]
        fn flow_find(key: &FlowKey<Self>) -> Option<*mut Flow<Self>> {
            $flows.get_ptr_mut(key)
        }

        #[inline(always)]
        fn flow_insert(key: &FlowKey<Self>, flow: &Flow<Self>, flags: u64) -> Result<(), i32> {
            $flows.insert(key, flow, flags)
        }

        #[inline(always)]
        fn flow_remove(key: &FlowKey<Self>) -> bool {
            $flows.remove(key).is_ok()
        }

        #[inline(always)]
        fn service(key: &ServiceKey<Self>) -> Option<u32> {
            // SAFETY: the value is one word that the controller writes whole.
            unsafe { $services.get(key) }.copied()
        }

        #[inline(always)]
        fn draft() -> Option<&'static mut Draft<Self>> {
            // SAFETY: the entry is this CPU's own, and XDP programs of one CPU do not interrupt each other.
            $draft.get_ptr_mut(0).map(|draft| unsafe { &mut *draft })
        }
    };
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Time to live and hop limit of packets made here.
const FRESH_TTL: u8 = 64;

impl Stages for V4 {
    #[inline(always)]
    fn parse_ip(packet: &Packet) -> Result<([u32; 1], [u32; 1], Transport), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(parse::L3)?;
        let version_ihl: u8 = header.load(ipv4::VERSION_IHL);
        let header_length = (version_ihl & 0xf) as usize * 4;
        if version_ihl >> 4 != 4 || header_length < ipv4::LENGTH {
            return Err(Outcome::Malformed);
        }
        let total = u16::from_be(header.load::<u16>(ipv4::TOTAL_LENGTH)) as usize;
        if total < header_length || parse::L3 + total > packet.length() {
            return Err(Outcome::Malformed);
        }
        if u16::from_be(header.load::<u16>(ipv4::FRAGMENT)) & ipv4::FRAGMENT_MASK != 0 {
            return Err(Outcome::Fragment);
        }
        let transport = Transport {
            offset: parse::L3 + header_length,
            length: total - header_length,
            packet_length: total,
            protocol: header.load(ipv4::PROTOCOL),
            ttl: header.load(ipv4::TTL),
        };
        Ok(([header.load(ipv4::SOURCE)], [header.load(ipv4::DESTINATION)], transport))
    }

    #[inline(always)]
    fn write_ip(packet: &Packet, rewrite: &FlowKey<Self>, addresses: Delta) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(parse::L3)?;
        let ttl_protocol: u16 = header.load(ipv4::TTL);
        let decremented = u16::from_be(ttl_protocol).wrapping_sub(0x0100).to_be();
        let mut delta = addresses;
        delta.word16(ttl_protocol, decremented);
        header.store(ipv4::TTL, decremented);
        header.store(ipv4::CHECKSUM, delta.apply(header.load(ipv4::CHECKSUM)));
        header.store(ipv4::SOURCE, rewrite.source[0]);
        header.store(ipv4::DESTINATION, rewrite.destination[0]);
        Ok(())
    }

    #[inline(always)]
    fn write_fresh_ip(packet: &Packet, source: &[u32; 1], destination: &[u32; 1]) -> Result<(), Outcome> {
        let header: Window<{ ipv4::LENGTH }> = packet.window(parse::L3)?;
        let total = ((ipv4::LENGTH + lb_common::wire::tcp::LENGTH) as u16).to_be();
        let words: [u16; 6] = [
            0x4500_u16.to_be(),
            total,
            0,
            0x4000_u16.to_be(),
            ((FRESH_TTL as u16) << 8 | lb_common::wire::tcp::PROTOCOL as u16).to_be(),
            0,
        ];
        let mut sum = source[0] as u64 + destination[0] as u64;
        let mut i = 0;
        while i < words.len() {
            header.store(2 * i, words[i]);
            sum += words[i] as u64;
            i += 1;
        }
        header.store(ipv4::CHECKSUM, !lb_common::checksum::fold(sum));
        header.store(ipv4::SOURCE, source[0]);
        header.store(ipv4::DESTINATION, destination[0]);
        Ok(())
    }

    #[inline(always)]
    fn route(lookup: &mut bpf_fib_lookup, key: &FlowKey<Self>) {
        lookup.family = AF_INET;
        lookup.__bindgen_anon_3.ipv4_src = key.source[0];
        lookup.__bindgen_anon_4.ipv4_dst = key.destination[0];
    }

    tables!(FLOWS_V4, SERVICES_V4, DRAFT_V4);
}

impl Stages for V6 {
    #[inline(always)]
    fn parse_ip(packet: &Packet) -> Result<([u32; 4], [u32; 4], Transport), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(parse::L3)?;
        if header.load::<u8>(ipv6::VERSION) >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        let payload = u16::from_be(header.load::<u16>(ipv6::PAYLOAD_LENGTH)) as usize;
        if parse::L3 + ipv6::LENGTH + payload > packet.length() {
            return Err(Outcome::Malformed);
        }
        let protocol: u8 = header.load(ipv6::NEXT_HEADER);
        if protocol == ipv6::FRAGMENT {
            return Err(Outcome::Fragment);
        }
        let transport = Transport {
            offset: parse::L3 + ipv6::LENGTH,
            length: payload,
            packet_length: ipv6::LENGTH + payload,
            protocol,
            ttl: header.load(ipv6::HOP_LIMIT),
        };
        Ok((
            load_v6(&header, ipv6::SOURCE),
            load_v6(&header, ipv6::DESTINATION),
            transport,
        ))
    }

    #[inline(always)]
    fn write_ip(packet: &Packet, rewrite: &FlowKey<Self>, _addresses: Delta) -> Result<(), Outcome> {
        let header: Window<{ ipv6::LENGTH }> = packet.window(parse::L3)?;
        header.store(ipv6::HOP_LIMIT, header.load::<u8>(ipv6::HOP_LIMIT).wrapping_sub(1));
        store_v6(&header, ipv6::SOURCE, &rewrite.source);
        store_v6(&header, ipv6::DESTINATION, &rewrite.destination);
        Ok(())
    }

    #[inline(always)]
    fn write_fresh_ip(packet: &Packet, source: &[u32; 4], destination: &[u32; 4]) -> Result<(), Outcome> {
        use lb_common::wire::tcp;
        let header: Window<{ ipv6::LENGTH }> = packet.window(parse::L3)?;
        header.store(0, 0x6000_0000_u32.to_be());
        header.store(ipv6::PAYLOAD_LENGTH, (tcp::LENGTH as u16).to_be());
        header.store(ipv6::NEXT_HEADER, tcp::PROTOCOL);
        header.store(ipv6::HOP_LIMIT, FRESH_TTL);
        store_v6(&header, ipv6::SOURCE, source);
        store_v6(&header, ipv6::DESTINATION, destination);
        Ok(())
    }

    #[inline(always)]
    fn route(lookup: &mut bpf_fib_lookup, key: &FlowKey<Self>) {
        lookup.family = AF_INET6;
        lookup.__bindgen_anon_3.ipv6_src = key.source;
        lookup.__bindgen_anon_4.ipv6_dst = key.destination;
    }

    tables!(FLOWS_V6, SERVICES_V6, DRAFT_V6);
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
