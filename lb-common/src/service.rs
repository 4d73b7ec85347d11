//! Services, their rings and their guards, in the maps of the packet path.

use crate::{abi_struct, endian::Be16};

/// How packets reach the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Full NAT: both addresses and ports are rewritten. The worker needs no configuration.
    Nat = 1,
    /// Destination NAT: the worker sees the client's address and replies through the balancer.
    Dnat = 2,
    /// Direct server return on layer 2: only the frame's addresses change; the worker holds the
    /// virtual address.
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

    /// Whether addresses or ports are rewritten: then replies must pass through the balancer.
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
    /// The slots of the ring in turn, by a counter that all CPUs share.
    RoundRobin = 1,
    /// The slot with the fewest flows in relation to its weight.
    LeastConnection = 2,
    /// The slot given by a hash of the client's address: persistence by client.
    SourceHash = 3,
    /// The slot given by a hash of the 5-tuple, in a table that changes little when backends are
    /// added or removed.
    Maglev = 4,
    /// A random slot.
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
    /// All flows go to another backend. Its worker decides what to do with an unknown TCP
    /// connection.
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

/// The ring of a service in the map `RINGS`, and its scheduler: one word, switched by one write.
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

    /// The scheduler; `None` where the entry holds no service.
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

/// The largest ring of which `least-connection` compares all backends for each new flow. In a
/// larger ring it compares two random ones.
pub const MAX_LEAST_CONNECTION: u32 = 256;

/// Number of slots in the ring of a service with the scheduler `maglev` or `source-hash`: a prime,
/// as Maglev requires.
pub const MAGLEV_SLOTS: u32 = 65_537;

/// Number of NAT sources that a service can have.
pub const MAX_SOURCES: usize = 4;

abi_struct! {
    /// An entry of the map `SERVICES`.
    ///
    /// `ring` is written last when an entry is filled, and first when it is emptied. The other
    /// words can be changed one by one while packets use them: every mix of old and new words is
    /// valid.
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
        /// First port of NAT bindings, in the host's byte order.
        pub nat_port_low: u16,
        /// Number of ports of NAT bindings.
        pub nat_port_count: u16,
        /// First port, in network byte order.
        pub port: Be16,
        /// Last port, in network byte order; equal to the first for a single port.
        pub last_port: Be16,
        /// How many of `sources` are in use.
        pub source_count: u32,
        /// Virtual address.
        pub address: [u32; 4],
        /// NAT sources.
        pub sources: [[u32; 4]; MAX_SOURCES],
        /// How many leading bits of the client's address the scheduler `source-hash` uses.
        pub source_prefix: u8,
        /// [`Guards`].
        pub guards: u8,
        /// [`Options`].
        pub options: u16,
        /// Limit of half-open and established flows; 0: none.
        pub connection_limit: u32,
        /// Limit of new flows a second of one source; 0: none.
        pub source_rate: u32,
        /// How many new flows a source can open at once.
        pub source_burst: u32,
        /// New flows a second above which new flows are forwarded by hash without an entry, in
        /// modes that do not translate; 0: never.
        pub flood_rate: u32,
        /// Always zero.
        pub reserved: u32,
    }
}

/// Which source lists a service has: bits of [`Service::guards`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards(pub u8);

impl Guards {
    /// Sources without an entry in `GUARDS_V4` or `GUARDS_V6` are denied.
    pub const ALLOW: u8 = 1;
    /// Some entries deny their sources.
    pub const DENY: u8 = 2;
}

/// Options of a service: bits of [`Service::options`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options(pub u16);

impl Options {
    /// `nat`: segments of the handshake carry the client's address and port in a TCP option (TOA).
    pub const TOA: u16 = 1;
}

abi_struct! {
    /// Key of the longest-prefix maps `GUARDS_V4` and `GUARDS_V6`, whose value is [`GUARD_ALLOW`]
    /// or [`GUARD_DENY`].
    pub struct GuardKey<F: Family> {
        /// Number of bits that count, of the service's index and the address together.
        pub prefix: u32,
        /// Index of the service, in network byte order.
        pub service: u32,
        /// Source address; of IPv6 the first 64 bits.
        pub address: F::Address,
    }
}

/// The source can open flows.
pub const GUARD_ALLOW: u32 = 1;
/// The source cannot open flows.
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
    /// Key of the longest-prefix maps `PORT_RANGES_V4` and `PORT_RANGES_V6`, whose value is the
    /// index of the service. They hold services with a port range, split into blocks of one prefix
    /// each.
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
    /// An entry of the map `SERVICE_STATES`. The packet path changes it atomically.
    pub struct ServiceState {
        /// Counter of round-robin: one for each choice.
        pub cursor: u64,
        /// New flows of the current second: bits 0–31 their number, bits 32–63 the second.
        pub recent: u64,
        /// Half-open and established flows of all its backends.
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
