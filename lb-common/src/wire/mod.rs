//! Where the fields of the headers lie, in bytes from the start of each header.

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
    /// Type of an IPv4 payload, in the host's byte order.
    pub const IPV4: u16 = 0x0800;
    /// Type of an IPv6 payload, in the host's byte order.
    pub const IPV6: u16 = 0x86dd;
}

pub mod ipv4 {
    //! RFC 791, section 3.1.

    /// Length of the header without options.
    pub const LENGTH: usize = 20;
    /// Offset of version (high nibble) and header length in 32-bit words (low nibble).
    pub const VERSION_IHL: usize = 0;
    /// Offset of the length of the packet.
    pub const TOTAL_LENGTH: usize = 2;
    /// Offset of flags and fragment offset.
    pub const FRAGMENT: usize = 6;
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
    /// Offset of the length of what follows the fixed header.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Offset of the type of the next header.
    pub const NEXT_HEADER: usize = 6;
    /// Offset of the hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Offset of the source address.
    pub const SOURCE: usize = 8;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 24;
    /// Next header: fragment.
    pub const FRAGMENT: u8 = 44;
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
