//! Offsets of header fields, in bytes from the start of each header.

pub mod eth {
    //! Ethernet II.

    /// Length of the header without VLAN tags.
    pub const LENGTH: usize = 14;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 0;
    /// Offset of the source address.
    pub const SOURCE: usize = 6;
    /// Offset of the type of the payload.
    pub const TYPE: usize = 12;
    /// Length of a VLAN tag.
    pub const TAG: usize = 4;
    /// Length of the longest supported header: with two tags.
    pub const LONGEST: usize = LENGTH + 2 * TAG;
    /// Type of a tagged frame (IEEE 802.1Q), in the host's byte order.
    pub const VLAN: u16 = 0x8100;
    /// Type of a frame with a service tag (IEEE 802.1ad), in the host's byte order.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Type of an ARP payload, in the host's byte order.
    pub const ARP: u16 = 0x0806;
    /// Type of an IPv4 payload, in the host's byte order.
    pub const IPV4: u16 = 0x0800;
    /// Type of an IPv6 payload, in the host's byte order.
    pub const IPV6: u16 = 0x86dd;
}

pub mod arp {
    //! RFC 826, for Ethernet and IPv4.

    /// Length of a message.
    pub const LENGTH: usize = 28;
    /// Offset of the operation.
    pub const OPERATION: usize = 6;
    /// Offset of the IPv4 address that is requested.
    pub const TARGET: usize = 24;
    /// Operation: request, in the host's byte order.
    pub const REQUEST: u16 = 1;
}

pub mod vrrp {
    //! RFC 9568, section 5.2, and RFC 3768, section 5.3: where both versions agree.

    /// IP protocol number.
    pub const PROTOCOL: u8 = 112;
    /// Length of the header before the addresses.
    pub const LENGTH: usize = 8;
    /// Offset of version (high nibble) and type (low nibble).
    pub const VERSION_TYPE: usize = 0;
    /// Offset of the virtual router id.
    pub const ROUTER: usize = 1;
    /// Offset of the priority.
    pub const PRIORITY: usize = 2;
    /// The only type: ADVERTISEMENT.
    pub const ADVERTISEMENT: u8 = 1;
}

pub mod ipv4 {
    //! RFC 791, section 3.1.

    /// Length of the header without options.
    pub const LENGTH: usize = 20;
    /// Offset of version (high nibble) and header length in 32-bit words (low nibble).
    pub const VERSION_IHL: usize = 0;
    /// Offset of the length of the packet.
    pub const TOTAL_LENGTH: usize = 2;
    /// Offset of the identification.
    pub const IDENTIFICATION: usize = 4;
    /// Offset of flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Flag "don't fragment" of the fragment word, in the host's byte order.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// Those bits of the fragment word, in the host's byte order, that are not zero in a fragment.
    pub const FRAGMENT_MASK: u16 = 0x3fff;
    /// Offset of the time to live.
    pub const TTL: usize = 8;
    /// Offset of the protocol of the payload.
    pub const PROTOCOL: usize = 9;
    /// Offset of the header checksum.
    pub const CHECKSUM: usize = 10;
    /// Offset of the source address.
    pub const SOURCE: usize = 12;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 16;
}

pub mod ipv6 {
    //! RFC 8200, section 3.

    /// Length of the fixed header.
    pub const LENGTH: usize = 40;
    /// Offset of the version (high nibble).
    pub const VERSION: usize = 0;
    /// Offset of the length after the fixed header.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Offset of the type of the next header.
    pub const NEXT_HEADER: usize = 6;
    /// Offset of the hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Offset of the source address.
    pub const SOURCE: usize = 8;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 24;
    /// Next header: hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Next header: routing.
    pub const ROUTING: u8 = 43;
    /// Next header: fragment.
    pub const FRAGMENT: u8 = 44;
    /// Next header: authentication (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Next header: destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// How many extension headers are skipped.
    pub const MAX_EXTENSIONS: usize = 4;
    /// Those bits of the fragment header's offset word, in the host's byte order, that are not zero
    /// in a fragment.
    pub const FRAGMENT_MASK: u16 = 0xfff9;
}

pub mod tcp {
    //! RFC 9293, section 3.1.

    /// IP protocol number.
    pub const PROTOCOL: u8 = 6;
    /// Length of the header without options.
    pub const LENGTH: usize = 20;
    /// Offset of the source port.
    pub const SOURCE_PORT: usize = 0;
    /// Offset of the destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Offset of the sequence number.
    pub const SEQUENCE: usize = 4;
    /// Offset of the acknowledgment number.
    pub const ACKNOWLEDGMENT: usize = 8;
    /// Offset of the header length in 32-bit words (high nibble).
    pub const DATA_OFFSET: usize = 12;
    /// Offset of the control bits.
    pub const FLAGS: usize = 13;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 16;

    /// Control bit: no more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Control bit: synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Control bit: reset the connection.
    pub const RST: u8 = 0x04;
    /// Control bit: the acknowledgment number is significant.
    pub const ACK: u8 = 0x10;
}

pub mod udp {
    //! RFC 768.

    /// IP protocol number.
    pub const PROTOCOL: u8 = 17;
    /// Length of the header.
    pub const LENGTH: usize = 8;
    /// Offset of the source port.
    pub const SOURCE_PORT: usize = 0;
    /// Offset of the destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Offset of the length of header and payload.
    pub const LENGTH_FIELD: usize = 4;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 6;
}

pub mod icmp {
    //! RFC 792 and RFC 4443: type, code, checksum, four more bytes, and the packet that the message
    //! is about.

    /// Protocol number of ICMP.
    pub const PROTOCOL: u8 = 1;
    /// Protocol number of ICMPv6.
    pub const PROTOCOL_V6: u8 = 58;
    /// Type of a neighbour solicitation (RFC 4861, section 4.3).
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Type of a neighbour advertisement (RFC 4861, section 4.4).
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Length of the header before the quoted packet.
    pub const LENGTH: usize = 8;
    /// Offset of the type.
    pub const TYPE: usize = 0;
    /// Offset of the code.
    pub const CODE: usize = 1;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 2;
    /// Offset of the MTU in an ICMPv6 message, 32 bits; in ICMP its lower 16 bits are the MTU (RFC
    /// 1191, section 4).
    pub const MTU: usize = 4;
    /// ICMP: destination unreachable; its code 4 is "fragmentation needed and DF set".
    pub const UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`].
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// ICMP: time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// ICMP: parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// ICMPv6: packet too big.
    pub const PACKET_TOO_BIG_V6: u8 = 2;
    /// ICMPv6: types below this one are errors.
    pub const INFORMATIONAL_V6: u8 = 128;
}
