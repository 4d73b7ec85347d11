//! The IP header of a family: read, translate, write.

use aya_ebpf::bindings::bpf_fib_lookup;
use lb_common::{Family, Outcome, checksum::Delta};

use crate::packet::{
    Packet,
    parsed::{Parsed, Transport},
};

/// Time to live and hop limit of packets made here.
pub const FRESH_TTL: u8 = 64;

/// An address family's IP header.
pub trait Headers: Family {
    /// EtherType, in network byte order.
    const ETHER_TYPE: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;

    /// Reads the fixed IP header.
    fn parse_ip(packet: &Packet, l3: usize, parsed: &mut Parsed<Self>) -> Result<(), Outcome>;

    /// Whether extension headers can precede the transport header. Only IPv6 has them.
    fn has_extensions(protocol: u8) -> bool;

    /// Whether the offset of the fragment is zero.
    fn is_first_fragment(transport: &Transport) -> bool;

    /// Writes both addresses and decrements the hop limit, with the header's own checksum.
    /// `addresses` is the change of a checksum by the addresses. The transport header stays
    /// unchanged.
    fn write_ip(
        packet: &Packet,
        l3: usize,
        source: &Self::Address,
        destination: &Self::Address,
        addresses: Delta,
    ) -> Result<(), Outcome>;

    /// Decrements the hop limit.
    fn hop_down(packet: &Packet, l3: usize) -> Result<(), Outcome>;

    /// Reads the fixed header of a packet that an ICMP error quotes at `l3`: addresses, protocol,
    /// and length of the header. The quoted packet can be cut off. One without a transport header
    /// is an error.
    fn quoted(packet: &Packet, l3: usize) -> Result<(Self::Address, Self::Address, u8, usize), Outcome>;

    /// Writes both addresses of a quoted packet. `addresses` is the change of a checksum by the
    /// addresses. Adds all other changes to `message`.
    fn write_quoted(
        packet: &Packet,
        l3: usize,
        source: &Self::Address,
        destination: &Self::Address,
        addresses: Delta,
        message: &mut Delta,
    ) -> Result<(), Outcome>;

    /// Writes an IP header without options for `payload` bytes of `protocol`.
    fn write_fresh_ip(
        packet: &Packet,
        l3: usize,
        source: &Self::Address,
        destination: &Self::Address,
        protocol: u8,
        payload: u16,
    ) -> Result<(), Outcome>;

    /// Fills the family's part of a route look-up, from the IP header at `l3`.
    fn route(packet: &Packet, l3: usize, lookup: &mut bpf_fib_lookup) -> Result<(), Outcome>;

    /// The part of an address that identifies a client: all of an IPv4 address, the first 64 bits
    /// of an IPv6 address.
    fn network(address: &Self::Address) -> Self::Address;
}
