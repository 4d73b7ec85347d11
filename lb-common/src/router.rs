//! Virtual routers: leases, adverts and addresses for the packet path.
//!
//! The lease ends when the controller dies: then the packet path stops answering ARP, and an
//! address never has two owners.

use crate::{abi_struct, family::address};

abi_struct! {
    /// A key of the map `ROUTER_IDS`: what an advert identifies a virtual router by.
    pub struct RouterKey {
        /// Index of the interface that receives adverts: the physical one, `tags` has the VLANs.
        pub interface: u32,
        /// VLAN tags of adverts, without priorities: see [`Tags`](crate::Tags).
        pub tags: u32,
        /// Virtual router id: 1 to 255.
        pub router: u16,
        /// Address family: 4 or 6.
        pub family: u16,
    }
}

abi_struct! {
    /// A key of the map `ROUTER_ADDRESSES`: a virtual address.
    pub struct RouterAddress {
        /// As in [`RouterKey`].
        pub interface: u32,
        /// As in [`RouterKey`].
        pub tags: u32,
        /// Address family: 4 or 6.
        pub family: u32,
        /// The address, in words in network byte order; unused ones are zero.
        pub address: [u32; 4],
    }
}

abi_struct! {
    /// An entry of the map `VIRTUAL_ROUTERS`. Times are of the kernel's monotonic clock, in
    /// nanoseconds.
    ///
    /// The controller writes the lease, the packet path the adverts that it received: each field
    /// has one writer.
    pub struct VirtualRouter {
        /// When the controller last renewed its lease.
        pub renewed: u64,
        /// When the lease ends; 0: none, because the controller is not master.
        pub until: u64,
        /// How long after `renewed` an advert of another balancer can wait for the controller's
        /// reaction, in nanoseconds.
        pub patience: u64,
        /// When the last advert of another balancer arrived, other than one with priority 0; 0:
        /// never.
        pub heard: u64,
        /// Its source address, in words in network byte order.
        pub heard_from: [u32; 4],
        /// Its priority.
        pub heard_priority: u32,
        /// Always zero.
        pub reserved: u32,
        /// The link-layer address of its sender, in the lower 48 bits, first byte lowest; 0:
        /// unknown.
        pub heard_mac: u64,
        /// Until when segments of unknown connections are relayed to that balancer; 0: they are
        /// not.
        pub relay_until: u64,
        /// The link-layer address of the interface itself, in the form of `heard_mac`.
        pub own_mac: u64,
        /// Version of the adverts: 2 or 3.
        pub version: u64,
    }
}

impl VirtualRouter {
    /// Whether this balancer answers ARP and echoes for the addresses: its lease is valid, and its
    /// controller has reacted to every other master.
    #[inline(always)]
    pub const fn answers(&self, now: u64) -> bool {
        now < self.until && !self.is_taken()
    }

    /// Whether frames to the virtual router's MAC address are for this balancer: it holds the
    /// addresses, or it just released them and no other balancer has sent an advert since.
    #[inline(always)]
    pub const fn is_addressed(&self, now: u64) -> bool {
        let was_last = self.renewed != 0 && self.heard <= self.renewed;
        self.answers(now) || now < self.relay_until && was_last
    }

    /// Whether segments of unknown connections are relayed to the other balancer.
    #[inline(always)]
    pub const fn relays(&self, now: u64) -> bool {
        now < self.relay_until && self.heard_mac != 0
    }

    /// Whether another balancer is master and the controller has not reacted.
    #[inline(always)]
    pub const fn is_taken(&self) -> bool {
        self.heard > self.renewed.saturating_add(self.patience)
    }
}

impl RouterAddress {
    /// The key of an address.
    pub fn new(interface: u32, tags: u32, of: core::net::IpAddr) -> Self {
        Self {
            interface,
            tags,
            family: address::family(of).into(),
            address: address::to_words(of),
        }
    }
}

/// Values of the map `ROUTER_ADDRESSES`: index of the virtual router, and whether the address takes
/// only packets of services.
pub mod place {
    const REFUSES: u32 = 1 << 31;

    /// The value for an address of the virtual router at `index`.
    #[inline(always)]
    pub const fn new(index: u32, refuses: bool) -> u32 {
        if refuses { index | REFUSES } else { index }
    }

    /// Index of the virtual router in the map `VIRTUAL_ROUTERS`.
    #[inline(always)]
    pub const fn index(place: u32) -> u32 {
        place & !REFUSES
    }

    /// Whether packets to the address that belong to no service are dropped.
    #[inline(always)]
    pub const fn refuses(place: u32) -> bool {
        place & REFUSES != 0
    }
}

/// The virtual router MAC address, in network byte order.
///
/// RFC 9568, section 7.3: "IPv4 case: 00-00-5E-00-01-{VRID}", "IPv6 case: 00-00-5E-00-02-{VRID}".
pub mod mac {
    /// The first bytes of every such address.
    pub const PREFIX: [u8; 4] = [0, 0, 0x5e, 0];

    /// The address of the virtual router of a family (4 or 6) with this id.
    pub const fn of(family: u8, router: u8) -> [u8; 6] {
        [0, 0, 0x5e, 0, if family == 4 { 1 } else { 2 }, router]
    }

    /// The family, from the last two bytes; `None` for another address.
    #[inline(always)]
    pub const fn family(last: [u8; 2]) -> Option<u16> {
        match last[0] {
            1 => Some(4),
            2 => Some(6),
            _ => None,
        }
    }

    /// The address in the form of [`heard_mac`](super::VirtualRouter::heard_mac).
    pub const fn word(mac: [u8; 6]) -> u64 {
        u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
    }
}

pub mod echo {
    //! Liveness echo: a UDP datagram that the packet path of another balancer sends back, with the
    //! state of its lease.
    //!
    //! All numbers are in network byte order.

    /// The UDP port of echoes: that of BFD, whose echoes are also sent back by the packet path, and
    /// whose content is "a local matter" (RFC 5881, section 4).
    pub const PORT: u16 = 3785;
    /// Length of probe and answer in bytes.
    pub const LENGTH: usize = 24;
    /// Offset of [`MAGIC`].
    pub const MAGIC_FIELD: usize = 0;
    /// The first four bytes.
    pub const MAGIC: u32 = 0x6c62_6563;
    /// Offset of the kind: [`PROBE`] or [`ANSWER`].
    pub const KIND: usize = 4;
    /// Offset of the virtual router id.
    pub const ROUTER: usize = 5;
    /// Offset of the address family: 4 or 6.
    pub const FAMILY: usize = 6;
    /// Offset of the lease flag of an answer: 1 if its sender holds the lease, else 0.
    pub const HOLDS: usize = 7;
    /// Offset of a number by which the sender of the probe recognises the answer: 64 bits.
    pub const NONCE: usize = 8;
    /// Offset of the time since the lease was renewed, in nanoseconds: 64 bits.
    pub const AGE: usize = 16;
    /// Kind: a probe.
    pub const PROBE: u8 = 1;
    /// Kind: an answer.
    pub const ANSWER: u8 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_address_of_a_virtual_router_contains_its_family_and_id() {
        for (family, mac) in [(4, [0, 0, 0x5e, 0, 1, 51]), (6, [0, 0, 0x5e, 0, 2, 51])] {
            assert_eq!(mac::of(family, 51), mac);
            assert_eq!(mac[..4], mac::PREFIX);
            assert_eq!(mac::family([mac[4], mac[5]]), Some(family.into()));
        }
        assert_eq!(mac::family([3, 51]), None);
        assert_eq!(mac::word([1, 2, 3, 4, 5, 6]), 0x0605_0403_0201);
    }

    #[test]
    fn a_value_keeps_index_and_flag() {
        for (index, refuses) in [(0, false), (0, true), (255, false), (255, true)] {
            let value = place::new(index, refuses);
            assert_eq!((place::index(value), place::refuses(value)), (index, refuses));
        }
    }

    #[test]
    fn a_balancer_answers_for_addresses_while_its_lease_is_valid() {
        // The lease ends at 200, patience is 50. Now, when another balancer was heard, and the
        // result.
        for (now, heard, answers) in [
            (100, 0, true),
            (199, 0, true),
            (200, 0, false),
            // Heard before the controller renewed the lease, and while it can still react.
            (120, 90, true),
            (160, 150, true),
            (160, 151, false),
        ] {
            let router = VirtualRouter {
                renewed: 100,
                until: 200,
                patience: 50,
                heard,
                ..VirtualRouter::ZERO
            };
            assert_eq!(router.answers(now), answers, "{now} {heard}");
        }
        assert!(!VirtualRouter::ZERO.answers(1), "without a lease");
    }

    #[test]
    fn frames_are_for_a_former_master_until_another_balancer_sends() {
        // The lease was last renewed at 100. Its end, the end of the relay, when another balancer
        // was heard, and the result.
        for (until, relay_until, heard, is_addressed) in [
            (200, 0, 0, true),
            (0, 0, 90, false),
            (0, 500, 90, true),
            (0, 500, 101, false),
            (0, 140, 90, false),
        ] {
            let router = VirtualRouter {
                renewed: 100,
                until,
                relay_until,
                heard,
                ..VirtualRouter::ZERO
            };
            assert_eq!(router.is_addressed(150), is_addressed, "{until} {relay_until} {heard}");
        }
        let never = VirtualRouter {
            relay_until: 500,
            ..VirtualRouter::ZERO
        };
        assert!(!never.is_addressed(150), "never master");
    }
}
