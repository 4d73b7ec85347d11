//! Virtual routers: what the packet path knows of VRRP, so that a dead controller's addresses never have two owners.

use crate::{abi_struct, family::address};

abi_struct! {
    /// A key of the map `ROUTER_IDS`: a virtual router, as adverts tell it.
    pub struct RouterKey {
        /// Interface that adverts come in on, at the bottom: VLANs are told by `tags`.
        pub interface: u32,
        /// VLAN tags of adverts, without priorities: see [`Tags`](crate::Tags).
        pub tags: u32,
        /// Number of the virtual router.
        pub router: u16,
        /// 4 or 6.
        pub family: u16,
    }
}

abi_struct! {
    /// A key of the map `ROUTER_ADDRESSES`: an address that moves.
    pub struct RouterAddress {
        /// As in [`RouterKey`].
        pub interface: u32,
        /// As in [`RouterKey`].
        pub tags: u32,
        /// 4 or 6.
        pub family: u32,
        /// As the words lie in a packet; unused ones are zero.
        pub address: [u32; 4],
    }
}

abi_struct! {
    /// An entry of the map `VIRTUAL_ROUTERS`. Times are of the kernel's monotonic clock, in nanoseconds.
    ///
    /// The controller writes the lease, the packet path what it heard; each field has one writer.
    pub struct VirtualRouter {
        /// When the controller renewed its lease last.
        pub renewed: u64,
        /// When the lease ends; 0: there is none, because the controller is not master.
        pub until: u64,
        /// For how long after `renewed` an advert of another balancer may stay without the controller's reaction.
        pub patience: u64,
        /// When another balancer's advert came last that does not give up; 0: never.
        pub heard: u64,
        /// Whom it came from: words of an address as they lie in a packet.
        pub heard_from: [u32; 4],
        /// Its priority.
        pub heard_priority: u32,
        /// Always zero.
        pub reserved: u32,
        /// The link-layer address of whoever sent the last advert, in the lower 48 bits, first byte lowest; 0: not known.
        pub heard_mac: u64,
        /// Until when packets of connections that are not known here go to that one; 0: they do not.
        pub relay_until: u64,
        /// The link-layer address of the interface itself, as in `heard_mac`.
        pub own_mac: u64,
        /// Version of the adverts that count: 2 or 3.
        pub version: u64,
    }
}

impl VirtualRouter {
    /// Whether this balancer answers for the addresses: its lease goes on, and no other balancer is master while its
    /// controller does not react.
    #[inline(always)]
    pub const fn answers(&self, now: u64) -> bool {
        now < self.until && !self.is_taken()
    }

    /// Whether frames to the link-layer address of the virtual router are for this balancer: it answers for the addresses, or
    /// did until just now, and nobody else has sent from there since.
    #[inline(always)]
    pub const fn is_addressed(&self, now: u64) -> bool {
        let was_last = self.renewed != 0 && self.heard <= self.renewed;
        self.answers(now) || now < self.relay_until && was_last
    }

    /// Whether packets of connections that are not known here go to the balancer that was master before, or is master now.
    #[inline(always)]
    pub const fn relays(&self, now: u64) -> bool {
        now < self.relay_until && self.heard_mac != 0
    }

    /// Whether another balancer is master, and the controller has not reacted to that.
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

/// Values of the map `ROUTER_ADDRESSES`: where the virtual router of an address stands, and whether the address takes nothing
/// but packets of services.
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

/// The link-layer address of a virtual router, which moves with its addresses; bytes lie as in a frame.
///
/// RFC 9568, section 7.3: "IPv4 case: 00-00-5E-00-01-{VRID}", "IPv6 case: 00-00-5E-00-02-{VRID}".
pub mod mac {
    /// What all of them begin with.
    pub const PREFIX: [u8; 4] = [0, 0, 0x5e, 0];

    /// That of the virtual router of a family (4 or 6) with a number.
    pub const fn of(family: u8, router: u8) -> [u8; 6] {
        [0, 0, 0x5e, 0, if family == 4 { 1 } else { 2 }, router]
    }

    /// The family that the last two bytes tell, if one does.
    #[inline(always)]
    pub const fn family(last: [u8; 2]) -> Option<u16> {
        match last[0] {
            1 => Some(4),
            2 => Some(6),
            _ => None,
        }
    }

    /// As [`heard_mac`](super::VirtualRouter::heard_mac) has it.
    pub const fn word(mac: [u8; 6]) -> u64 {
        u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
    }
}

pub mod echo {
    //! What a balancer asks the packet path of another one, and how that answers: a UDP datagram that goes back as it came.
    //!
    //! All numbers are in network byte order.

    /// The UDP port where it is asked: that of BFD's echoes, which are turned around by the packet path alike, and whose
    /// content is "a local matter" (RFC 5881, section 4).
    pub const PORT: u16 = 3785;
    /// Length of question and answer.
    pub const LENGTH: usize = 24;
    /// Offset of [`MAGIC`].
    pub const MAGIC_FIELD: usize = 0;
    /// What it begins with.
    pub const MAGIC: u32 = 0x6c62_6563;
    /// Offset of [`ASKS`] or [`ANSWERS`].
    pub const KIND: usize = 4;
    /// Offset of the number of the virtual router.
    pub const ROUTER: usize = 5;
    /// Offset of its family: 4 or 6.
    pub const FAMILY: usize = 6;
    /// Offset of 1 where the one who answers holds the lease, else 0.
    pub const HOLDS: usize = 7;
    /// Offset of a number that the one who asks recognises: 64 bits.
    pub const NONCE: usize = 8;
    /// Offset of the nanoseconds since the lease was renewed: 64 bits.
    pub const AGE: usize = 16;
    /// Kind: a question.
    pub const ASKS: u8 = 1;
    /// Kind: an answer.
    pub const ANSWERS: u8 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_virtual_router_tells_its_family_and_number() {
        for (family, mac) in [(4, [0, 0, 0x5e, 0, 1, 51]), (6, [0, 0, 0x5e, 0, 2, 51])] {
            assert_eq!(mac::of(family, 51), mac);
            assert_eq!(mac[..4], mac::PREFIX);
            assert_eq!(mac::family([mac[4], mac[5]]), Some(family.into()));
        }
        assert_eq!(mac::family([3, 51]), None);
        assert_eq!(mac::word([1, 2, 3, 4, 5, 6]), 0x0605_0403_0201);
    }

    #[test]
    fn a_place_keeps_what_it_is_made_of() {
        for (index, refuses) in [(0, false), (0, true), (255, false), (255, true)] {
            let value = place::new(index, refuses);
            assert_eq!((place::index(value), place::refuses(value)), (index, refuses));
        }
    }

    #[test]
    fn who_answers_for_the_addresses() {
        // The lease ends at 200; 50 of patience; when another one was heard.
        for (now, heard, answers) in [
            (100, 0, true),
            (199, 0, true),
            (200, 0, false),
            // Before the controller renewed the lease, and while it may still react.
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
        assert!(!VirtualRouter::ZERO.answers(1), "who holds no lease");
    }

    #[test]
    fn frames_are_for_whoever_gave_up_until_somebody_else_sends() {
        // The lease was renewed last at 100 and given up; until when it relays; when another one was heard.
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
        assert!(!never.is_addressed(150), "who was never master");
    }
}
