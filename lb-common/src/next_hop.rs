//! Where a frame goes next: the link-layer addresses and the interface.

use crate::abi_struct;

abi_struct! {
    /// A resolved next hop. An entry of the map `NEXT_HOPS`, or what a flow remembers of its client.
    ///
    /// `ifindex` 0 means: not resolved. The addresses lie as they stand in the Ethernet header.
    pub struct NextHop {
        /// Destination, then source address.
        pub addresses: [u32; 3],
        /// Interface to send from; 0 while not resolved.
        pub ifindex: u32,
        /// VLAN tags to send with: see [`Tags`].
        pub tags: Tags,
        /// The largest IP packet that the interface sends, in bytes; 0 where that is not known.
        pub mtu: u32,
    }
}

abi_struct! {
    /// An entry of the map `CLIENT_HOPS`: where packets of some clients come from.
    pub struct ClientHop {
        /// Where their answers go.
        pub hop: NextHop,
        /// [`ClientHop::FREE`] and so on; changed by compare-and-swap.
        pub state: u32,
        /// Always zero.
        pub reserved: u32,
    }
}

impl ClientHop {
    /// Nothing is in the entry.
    pub const FREE: u32 = 0;
    /// It is being written.
    pub const WRITING: u32 = 1;
    /// It may be used.
    pub const VALID: u32 = 2;
    /// No flow referred to it of late. It may be used by whoever makes it valid again, and is freed after another while.
    pub const LEAVING: u32 = 3;
}

/// Up to two VLAN tags of a frame. The tag control information lies as in the frame.
///
/// Bits 0–15 the outer or only tag, bits 16–31 the inner one. Zero: no tag; a frame with priority tags (VLAN 0) counts as
/// untagged where it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Tags(pub u32);

impl Tags {
    /// No tag.
    pub const NONE: Self = Self(0);

    /// The bits that tell VLANs apart: both identifiers, without the priorities.
    pub const VLANS: u32 = (0x0fff_u16.to_be() as u32) * 0x1_0001;

    /// How many tags there are.
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
    /// Whether frames can be sent there.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.ifindex != 0
    }

    /// Whether frames that go there reach the same neighbour, whatever address they come from.
    #[inline(always)]
    pub const fn is_same_neighbour(&self, other: &Self) -> bool {
        self.addresses[0] == other.addresses[0]
            && self.addresses[1] & 0xffff == other.addresses[1] & 0xffff
            && self.ifindex == other.ifindex
            && self.tags.0 == other.tags.0
    }

    /// From link-layer addresses.
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
    fn addresses_lie_as_in_the_ethernet_header() {
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
