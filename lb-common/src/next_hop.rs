//! Next hops and client hops: link-layer addresses, interface and VLAN tags.

use crate::abi_struct;

abi_struct! {
    /// A next hop: an entry of the map `NEXT_HOPS`, or the hop of a [`ClientHop`].
    ///
    /// Addresses are in the order of the Ethernet header.
    pub struct NextHop {
        /// Destination, then source address.
        pub addresses: [u32; 3],
        /// Index of the interface to send from; 0 while not resolved.
        pub ifindex: u32,
        /// VLAN tags to send with: see [`Tags`].
        pub tags: Tags,
        /// The largest IP packet that the interface sends, in bytes; 0: unknown.
        pub mtu: u32,
    }
}

abi_struct! {
    /// An entry of the map `CLIENT_HOPS`: where packets of clients come from.
    pub struct ClientHop {
        /// The hop for replies to these clients.
        pub hop: NextHop,
        /// [`ClientHop::FREE`], [`WRITING`](Self::WRITING), [`VALID`](Self::VALID) or
        /// [`LEAVING`](Self::LEAVING); changed by compare-and-swap.
        pub state: u32,
        /// Always zero.
        pub reserved: u32,
    }
}

impl ClientHop {
    /// The entry is free.
    pub const FREE: u32 = 0;
    /// A CPU is writing it.
    pub const WRITING: u32 = 1;
    /// It is valid.
    pub const VALID: u32 = 2;
    /// No flow refers to it. A CPU that needs it makes it valid again; else the controller frees
    /// it.
    pub const LEAVING: u32 = 3;
}

/// Up to two VLAN tags of a frame: tag control information in network byte order.
///
/// Bits 0–15 the outer or only tag, bits 16–31 the inner one. Zero: no tag. A frame with a priority
/// tag (VLAN 0) is compared as untagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Tags(pub u32);

impl Tags {
    /// No tag.
    pub const NONE: Self = Self(0);

    /// The bits of both VLAN identifiers, without the priorities.
    pub const VLANS: u32 = (0x0fff_u16.to_be() as u32) * 0x1_0001;

    /// Number of tags.
    #[inline(always)]
    pub const fn count(self) -> usize {
        (self.0 & 0xffff != 0) as usize + (self.0 >> 16 != 0) as usize
    }

    /// Whether both are in the same VLANs.
    #[inline(always)]
    pub const fn is_same_vlan(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::VLANS == 0
    }

    /// One tag with a VLAN identifier in the host's byte order.
    pub const fn vlan(id: u16) -> Self {
        Self(id.to_be() as u32)
    }
}

impl NextHop {
    /// Whether the hop is resolved.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.ifindex != 0
    }

    /// Whether both lead to the same neighbour. The source address is not compared.
    #[inline(always)]
    pub const fn is_same_neighbour(&self, other: &Self) -> bool {
        self.addresses[0] == other.addresses[0]
            && self.addresses[1] & 0xffff == other.addresses[1] & 0xffff
            && self.ifindex == other.ifindex
            && self.tags.0 == other.tags.0
    }

    /// An untagged hop from link-layer addresses.
    pub fn new(ifindex: u32, source: [u8; 6], destination: [u8; 6]) -> Self {
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&destination);
        bytes[6..].copy_from_slice(&source);
        let addresses = core::array::from_fn(|i| {
            u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
        });
        Self {
            addresses,
            ifindex,
            tags: Tags::NONE,
            mtu: 0,
        }
    }

    /// The destination link-layer address.
    pub fn destination(&self) -> [u8; 6] {
        let [a, b, _] = self.addresses.map(u32::to_ne_bytes);
        [a[0], a[1], a[2], a[3], b[0], b[1]]
    }

    /// The source link-layer address.
    pub fn source(&self) -> [u8; 6] {
        let [_, b, c] = self.addresses.map(u32::to_ne_bytes);
        [b[2], b[3], c[0], c[1], c[2], c[3]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_order_of_the_ethernet_header() {
        let hop = NextHop::new(3, [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]);
        assert_eq!(hop.source(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(hop.destination(), [11, 12, 13, 14, 15, 16]);
        assert_eq!(hop.addresses[0].to_ne_bytes(), [11, 12, 13, 14]);
        assert!(hop.is_resolved() && !NextHop::ZERO.is_resolved());
    }

    #[test]
    fn the_neighbour_is_the_same_for_every_source_address() {
        let hop = |ifindex, source, destination| NextHop::new(ifindex, [source; 6], [destination; 6]);
        for (other, is_same) in [
            (hop(3, 1, 2), true),
            (hop(3, 9, 2), true),
            (hop(4, 1, 2), false),
            (hop(3, 1, 3), false),
            (
                NextHop {
                    tags: Tags::vlan(5),
                    ..hop(3, 1, 2)
                },
                false,
            ),
            (NextHop::new(3, [1; 6], [2, 2, 2, 2, 2, 3]), false),
        ] {
            assert_eq!(hop(3, 1, 2).is_same_neighbour(&other), is_same, "{other:?}");
        }
    }
}
