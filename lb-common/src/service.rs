//! Services and their rings as the packet path sees them.

use crate::{abi_struct, endian::Be16};

/// How packets reach the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Full NAT: both addresses and ports are rewritten; the worker needs no set-up.
    Nat = 1,
}

/// How a backend is chosen for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scheduler {
    /// The ring's slots in turn, by a counter that all CPUs share.
    RoundRobin = 1,
    /// The slot with the fewest flows for its weight.
    LeastConnection = 2,
}

impl Scheduler {
    /// From the number in a map.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::RoundRobin),
            2 => Some(Self::LeastConnection),
            _ => None,
        }
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
}

impl OnBackendDown {
    /// From the number in a map; anything unknown is [`OnBackendDown::Reset`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            2 => Self::Hold,
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

/// Number of backends that `least-connection` compares for each new flow; a service with this scheduler has no more.
pub const MAX_LEAST_CONNECTION: u32 = 256;

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
        /// Port, in network byte order.
        pub port: Be16,
        /// Always zero.
        pub reserved: u16,
        /// How many of `sources` are in use.
        pub source_count: u32,
        /// Virtual address.
        pub address: [u32; 4],
        /// Source addresses for `nat`.
        pub sources: [[u32; 4]; MAX_SOURCES],
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
