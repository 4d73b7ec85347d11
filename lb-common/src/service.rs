//! Services and their rings as the packet path sees them.

use crate::{abi_struct, endian::Be16};

/// How packets reach the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Full NAT: both addresses and ports are rewritten; the worker needs no set-up.
    Nat = 1,
    /// Destination NAT: the worker sees the client's address and answers through the balancer.
    Dnat = 2,
    /// Direct server return on layer 2: only the frame's addresses change; the worker holds the virtual address.
    Dsr = 3,
    /// IP in IP: the packet travels unchanged inside another; the worker holds the virtual address.
    Ipip = 4,
    /// Generic UDP encapsulation: the packet travels unchanged inside a UDP datagram.
    Gue = 5,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 5] = [Self::Nat, Self::Dnat, Self::Dsr, Self::Ipip, Self::Gue];

    /// From the number in a map.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Nat),
            2 => Some(Self::Dnat),
            3 => Some(Self::Dsr),
            4 => Some(Self::Ipip),
            5 => Some(Self::Gue),
            _ => None,
        }
    }

    /// Whether addresses or ports are rewritten, so that answers must pass through the balancer.
    #[inline(always)]
    pub const fn translates(self) -> bool {
        matches!(self, Self::Nat | Self::Dnat)
    }

    /// How many bytes the mode adds to a packet whose outer family has this number.
    pub const fn overhead(self, outer_family: u8) -> usize {
        use crate::wire::{ipv4, ipv6, udp};
        let outer = if outer_family == 6 { ipv6::LENGTH } else { ipv4::LENGTH };
        match self {
            Self::Ipip => outer,
            Self::Gue => outer + udp::LENGTH,
            Self::Nat | Self::Dnat | Self::Dsr => 0,
        }
    }

    /// Whether the packet travels inside another, over any number of hops and in either family.
    #[inline(always)]
    pub const fn encapsulates(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }
}

/// How a backend is chosen for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scheduler {
    /// The ring's slots in turn, by a counter that all CPUs share.
    RoundRobin = 1,
    /// The slot with the fewest flows for its weight.
    LeastConnection = 2,
    /// The slot that the client's address hashes to: persistence by client.
    SourceHash = 3,
    /// The slot that the 5-tuple hashes to, in a table that changes little when backends come and go.
    Maglev = 4,
    /// Any slot.
    Random = 5,
}

impl Scheduler {
    /// From the number in a map.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::RoundRobin),
            2 => Some(Self::LeastConnection),
            3 => Some(Self::SourceHash),
            4 => Some(Self::Maglev),
            5 => Some(Self::Random),
            _ => None,
        }
    }

    /// Whether the same packet always gets the same slot of the same ring.
    #[inline(always)]
    pub const fn is_stateless(self) -> bool {
        matches!(self, Self::SourceHash | Self::Maglev)
    }
}

/// What happens to the flows of a backend that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OnBackendDown {
    /// TCP flows are reset; UDP flows go to another backend.
    Reset = 1,
    /// Flows stay with the backend.
    Hold = 2,
    /// All flows go to another backend; what a worker makes of a TCP connection that it does not know is its own affair.
    Reschedule = 3,
}

impl OnBackendDown {
    /// From the number in a map; anything unknown is [`OnBackendDown::Reset`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            2 => Self::Hold,
            3 => Self::Reschedule,
            _ => Self::Reset,
        }
    }
}

/// Where the ring of a service lies in the map `RINGS`, and how to choose from it: one word, switched by one write.
///
/// Bits 0–31 first slot, 32–55 number of slots, 56–63 scheduler. Zero: no service.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Ring(pub u64);

impl Ring {
    /// The largest number of slots that a ring can have.
    pub const MAX_LENGTH: u32 = (1 << 24) - 1;

    /// Packs the parts. `length` must not exceed [`Ring::MAX_LENGTH`].
    pub const fn new(scheduler: Scheduler, offset: u32, length: u32) -> Self {
        assert!(length <= Self::MAX_LENGTH);
        Self(offset as u64 | (length as u64) << 32 | (scheduler as u64) << 56)
    }

    /// Index of the first slot.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// Number of slots.
    #[inline(always)]
    pub const fn length(self) -> u32 {
        (self.0 >> 32) as u32 & Self::MAX_LENGTH
    }

    /// How to choose; `None` where the entry holds no service.
    #[inline(always)]
    pub const fn scheduler(self) -> Option<Scheduler> {
        Scheduler::from_number((self.0 >> 56) as u8)
    }
}

impl core::fmt::Debug for Ring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ring")
            .field("scheduler", &self.scheduler())
            .field("offset", &self.offset())
            .field("length", &self.length())
            .finish()
    }
}

/// Up to this many backends `least-connection` compares all of them for each new flow; of more it compares two that it
/// draws at random.
pub const MAX_LEAST_CONNECTION: u32 = 256;

/// Number of slots in the ring of a service with the scheduler `maglev` or `source-hash`: a prime, as the method needs.
pub const MAGLEV_SLOTS: u32 = 65_537;

/// Number of source addresses that a service in `nat` mode can have.
pub const MAX_SOURCES: usize = 4;

abi_struct! {
    /// An entry of the map `SERVICES`.
    ///
    /// `ring` is written last when an entry is filled, and first when it is emptied. The other words may be changed one by
    /// one while packets use them: any mix of old and new ones is a setting that was or will be right.
    pub struct Service {
        /// Ring and scheduler.
        pub ring: Ring,
        /// [`OnBackendDown`].
        pub on_backend_down: u8,
        /// [`Mode`].
        pub mode: u8,
        /// Address family: 4 or 6.
        pub family: u8,
        /// IP protocol: TCP or UDP.
        pub protocol: u8,
        /// First source port for `nat`, in the host's byte order.
        pub nat_port_low: u16,
        /// Number of source ports for `nat`.
        pub nat_port_count: u16,
        /// First port, in network byte order.
        pub port: Be16,
        /// Last port, in network byte order; the first one again where the service has a single port.
        pub last_port: Be16,
        /// How many of `sources` are in use.
        pub source_count: u32,
        /// Virtual address.
        pub address: [u32; 4],
        /// Source addresses for `nat`.
        pub sources: [[u32; 4]; MAX_SOURCES],
        /// How many leading bits of the client's address the scheduler `source-hash` looks at.
        pub source_prefix: u8,
        /// [`Guards`].
        pub guards: u8,
        /// [`Options`].
        pub options: u16,
        /// Most flows at a time, opening and established; 0 for no limit.
        pub connection_limit: u32,
        /// New flows a second that one source address may begin; 0 for no limit.
        pub source_rate: u32,
        /// How many new flows a source may begin at once before the rate counts.
        pub source_burst: u32,
        /// New flows a second above which they are spread by hash and not entered in the table, in modes that can do
        /// so; 0 for never.
        pub flood_rate: u32,
        /// Always zero.
        pub reserved: u32,
    }
}

/// Which lists of source addresses a service has: bits of [`Service::guards`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards(pub u8);

impl Guards {
    /// Sources without an entry in `GUARDS_V4` or `GUARDS_V6` are refused.
    pub const ALLOW: u8 = 1;
    /// Some entries refuse their sources.
    pub const DENY: u8 = 2;
}

/// Switches of a service: bits of [`Service::options`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options(pub u16);

impl Options {
    /// `nat`: the client's address and port go to the worker in a TCP option.
    pub const TOA: u16 = 1;
}

abi_struct! {
    /// Key of the longest-prefix maps `GUARDS_V4` and `GUARDS_V6`, whose value is [`GUARD_ALLOW`] or [`GUARD_DENY`].
    pub struct GuardKey<F: Family> {
        /// Number of bits that count, of the service's index and the address together.
        pub prefix: u32,
        /// Index of the service, in network byte order.
        pub service: u32,
        /// Source address; of IPv6 the first 64 bits.
        pub address: F::Address,
    }
}

/// The source may begin flows.
pub const GUARD_ALLOW: u32 = 1;
/// The source may not begin flows.
pub const GUARD_DENY: u32 = 2;

abi_struct! {
    /// Key of the maps `RATES_V4` and `RATES_V6`.
    pub struct RateKey<F: Family> {
        /// Index of the service.
        pub service: u32,
        /// Source address.
        pub address: F::Address,
    }
}

abi_struct! {
    /// Key of the longest-prefix maps `PORT_RANGES_V4` and `PORT_RANGES_V6`, whose value is the index of the service.
    /// They hold services with more than one port, each range cut into blocks that one prefix describes.
    pub struct PortRangeKey<F: Family> {
        /// Number of bits that count, of all that follows.
        pub prefix: u32,
        /// Virtual address.
        pub address: F::Address,
        /// IP protocol.
        pub protocol: u8,
        /// Always zero.
        pub reserved: u8,
        /// Port, in network byte order.
        pub port: Be16,
    }
}

abi_struct! {
    /// Key of the maps `SERVICES_V4` and `SERVICES_V6`, whose value is the index of the service.
    pub struct ServiceKey<F: Family> {
        /// Virtual address.
        pub address: F::Address,
        /// Port, in network byte order.
        pub port: Be16,
        /// IP protocol.
        pub protocol: u8,
        /// Always zero.
        pub reserved: u8,
    }
}

abi_struct! {
    /// An entry of the map `SERVICE_STATES`, changed atomically by the packet path.
    pub struct ServiceState {
        /// Counts choices; round-robin takes its slots in this order.
        pub cursor: u64,
        /// New flows of the current second: bits 0–31 their number, bits 32–63 the second.
        pub recent: u64,
        /// Flows of all its backends now, opening and established.
        pub flows: u32,
        /// Always zero: keeps services that are changed on different CPUs on different cache lines.
        pub reserved: [u32; 11],
    }
}

abi_struct! {
    /// An entry of the map `RINGS`.
    pub struct RingSlot {
        /// Index in `BACKENDS`.
        pub backend: u32,
        /// Weight of the backend.
        pub weight: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_word_keeps_its_parts() {
        let ring = Ring::new(Scheduler::LeastConnection, u32::MAX, Ring::MAX_LENGTH);
        assert_eq!(ring.scheduler(), Some(Scheduler::LeastConnection));
        assert_eq!(ring.offset(), u32::MAX);
        assert_eq!(ring.length(), Ring::MAX_LENGTH);
        assert_eq!(Ring(0).scheduler(), None);
    }
}
