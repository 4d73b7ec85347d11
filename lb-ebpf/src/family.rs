//! What the stages need of an address family beyond its types: its maps, and where its header keeps things.

use aya_ebpf::{bindings::bpf_fib_lookup, btf_maps::lpm_trie::Key};
use lb_common::{
    Be16, Outcome, RateKey, ServiceKey, V4, V6,
    checksum::{self, Delta},
    flow_table::Spills,
    fragment::{FragmentKey, FragmentPorts},
    wire::{ipv4, ipv6},
};

use crate::{
    cells::Bucket,
    global::Global,
    icmp::Draft,
    maps,
    packet::{Packet, Window},
    parse::{Parsed, Transport},
    room::Room,
};

/// An address family in the packet path.
pub trait Stages: Global {
    /// EtherType, in network byte order.
    const ETHER_TYPE: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;

    /// Reads the fixed IP header.
    fn parse_ip(packet: &Packet, l3: usize, parsed: &mut Parsed<Self>) -> Result<(), Outcome>;

    /// Whether the transport header may not be where [`Stages::parse_ip`] says: IPv6 with extension headers.
    fn has_extensions(protocol: u8) -> bool;

    /// Whether the fragment's offset is zero.
    fn is_first_fragment(transport: &Transport) -> bool;

    /// Writes both addresses and one hop less, with the header's own checksum. `addresses` is the change that the
    /// addresses make to a checksum. The transport header is not touched.
    fn write_ip(
        packet: &Packet,
        l3: usize,
        source: &Self::Address,
        destination: &Self::Address,
        addresses: Delta,
    ) -> Result<(), Outcome>;

    /// One hop less, and nothing else.
    fn hop_down(packet: &Packet, l3: usize) -> Result<(), Outcome>;

    /// Reads the fixed header of a packet that is quoted at `l3` and may be cut off: addresses, protocol, and the length of
    /// the header. Only a packet whose transport header follows is of use.
    fn quoted(packet: &Packet, l3: usize) -> Result<(Self::Address, Self::Address, u8, usize), Outcome>;

    /// Writes both addresses of a quoted packet. `addresses` is the change that they make to a checksum; adds to
    /// `message` what else changes.
    fn write_quoted(
        packet: &Packet,
        l3: usize,
        source: &Self::Address,
        destination: &Self::Address,
        addresses: Delta,
        message: &mut Delta,
    ) -> Result<(), Outcome>;

    /// Writes a whole IP header without options before `payload` bytes of `protocol`.
    fn write_fresh_ip(
        packet: &Packet,
        l3: usize,
        source: &Self::Address,
        destination: &Self::Address,
        protocol: u8,
        payload: u16,
    ) -> Result<(), Outcome>;

    /// Fills the parts of a route look-up that depend on the family, from the IP header at `l3`.
    fn route(packet: &Packet, l3: usize, lookup: &mut bpf_fib_lookup) -> Result<(), Outcome>;

    /// The part of an address that one client holds: all of it, or of IPv6 the first 64 bits.
    fn network(address: &Self::Address) -> Self::Address;

    /// Room of this CPU for an ICMP error.
    fn draft() -> Option<&'static mut Draft<Self>>;
    /// Room of this CPU for what the slow way works with.
    fn room() -> Option<&'static mut Room<Self>>;
    fn bucket(index: u32) -> Option<Bucket>;
    fn buckets() -> u32;
    fn spills(index: u32) -> Option<*mut Spills>;
    fn service(key: &ServiceKey<Self>) -> Option<u32>;
    fn service_of_range(address: &Self::Address, protocol: u8, port: Be16) -> Option<u32>;
    fn guard(service: u32, source: &Self::Address) -> Option<u32>;
    fn rate(key: &RateKey<Self>) -> Option<*mut u64>;
    fn set_rate(key: &RateKey<Self>, value: u64);
    fn fragment(key: &FragmentKey<Self>) -> Option<FragmentPorts>;
    fn set_fragment(key: &FragmentKey<Self>, ports: &FragmentPorts);
}

macro_rules! tables {
    ($flows:ident, $buckets:ident, $spills:ident, $services:ident, $ranges:ident, $guards:ident, $rates:ident, $fragments:ident, $draft:ident, $room:ident) => {
        #[inline(always)]
        fn room() -> Option<&'static mut Room<Self>> {
            // SAFETY: as in `draft`.
            maps::$room.get_ptr_mut(0).map(|room| unsafe { &mut *room })
        }

        #[inline(always)]
        fn draft() -> Option<&'static mut Draft<Self>> {
            // SAFETY: the entry is this CPU's own, and XDP programs of one CPU do not interrupt each other.
            maps::$draft.get_ptr_mut(0).map(|draft| unsafe { &mut *draft })
        }

        #[inline(always)]
        fn bucket(index: u32) -> Option<Bucket> {
            maps::$flows.get_ptr_mut(index).map(Bucket::new)
        }

        #[inline(always)]
        fn buckets() -> u32 {
            maps::settings().map_or(0, |settings| settings.$buckets)
        }

        #[inline(always)]
        fn spills(index: u32) -> Option<*mut Spills> {
            maps::$spills.get_ptr_mut(index)
        }

        #[inline(always)]
        fn service(key: &ServiceKey<Self>) -> Option<u32> {
            // SAFETY: the value is one word that the controller writes whole.
            unsafe { maps::$services.get(key) }.copied()
        }

        #[inline(always)]
        fn service_of_range(address: &Self::Address, protocol: u8, port: Be16) -> Option<u32> {
            let mut rest = [0; { size_of::<lb_common::PortRangeKey<Self>>() - 4 }];
            let last = (port.memory() as u32) << 16 | protocol as u32;
            put_words(&mut rest, address.as_ref(), last);
            let bits = 8 * (size_of::<lb_common::PortRangeKey<Self>>() - 4) as u32;
            maps::$ranges.get(&Key::new(bits, rest)).copied()
        }

        #[inline(always)]
        fn guard(service: u32, source: &Self::Address) -> Option<u32> {
            let mut rest = [0; { size_of::<lb_common::GuardKey<Self>>() - 4 }];
            put_first(&mut rest, service.to_be(), source.as_ref());
            let bits = 8 * (size_of::<lb_common::GuardKey<Self>>() - 4) as u32;
            maps::$guards.get(&Key::new(bits, rest)).copied()
        }

        #[inline(always)]
        fn rate(key: &RateKey<Self>) -> Option<*mut u64> {
            maps::$rates.get_ptr_mut(key)
        }

        #[inline(always)]
        fn set_rate(key: &RateKey<Self>, value: u64) {
            // A source that cannot be kept is not limited.
            let _ = maps::$rates.insert(key, &value, 0);
        }

        #[inline(always)]
        fn fragment(key: &FragmentKey<Self>) -> Option<FragmentPorts> {
            // SAFETY: the value is copied; its one word is written whole.
            unsafe { maps::$fragments.get(key) }.copied()
        }

        #[inline(always)]
        fn set_fragment(key: &FragmentKey<Self>, ports: &FragmentPorts) {
            // Where this one cannot be kept, later fragments pass to the kernel, counted.
            let _ = maps::$fragments.insert(key, ports, 0);
        }
    };
}

/// Writes words of an address and one behind them.
#[inline(always)]
fn put_words<const N: usize>(bytes: &mut [u8; N], address: &[u32], last: u32) {
    let target: *mut u32 = bytes.as_mut_ptr().cast();
    let mut i = 0;
    while i < address.len() && 4 * i + 8 <= N {
        // SAFETY: within the array, by the condition.
        unsafe { target.add(i).write_unaligned(address[i]) };
        i += 1;
    }
    // SAFETY: the array is as long as the address and one word.
    unsafe { target.add(N / 4 - 1).write_unaligned(last) };
}

/// Writes a word and those of an address behind it.
#[inline(always)]
fn put_first<const N: usize>(bytes: &mut [u8; N], first: u32, address: &[u32]) {
    let target: *mut u32 = bytes.as_mut_ptr().cast();
    // SAFETY: within the array; so below.
    unsafe { target.write_unaligned(first) };
    let mut i = 0;
    while i < address.len() && 4 * i + 8 <= N {
        // SAFETY: as above.
        unsafe { target.add(i + 1).write_unaligned(address[i]) };
        i += 1;
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Time to live and hop limit of packets made here.
pub const FRESH_TTL: u8 = 64;

impl Stages for V4 {
    const ETHER_TYPE: u16 = lb_common::wire::eth::IPV4.to_be();
    const ICMP: u8 = lb_common::wire::icmp::PROTOCOL;

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

    tables!(
        FLOWS_V4,
        buckets_v4,
        SPILLS_V4,
        SERVICES_V4,
        PORT_RANGES_V4,
        GUARDS_V4,
        RATES_V4,
        FRAGMENTS_V4,
        ERRORS_V4,
        ROOM_V4
    );
}

impl Stages for V6 {
    const ETHER_TYPE: u16 = lb_common::wire::eth::IPV6.to_be();
    const ICMP: u8 = lb_common::wire::icmp::PROTOCOL_V6;

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

    tables!(
        FLOWS_V6,
        buckets_v6,
        SPILLS_V6,
        SERVICES_V6,
        PORT_RANGES_V6,
        GUARDS_V6,
        RATES_V6,
        FRAGMENTS_V6,
        ERRORS_V6,
        ROOM_V6
    );
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
