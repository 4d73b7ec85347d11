//! Backends, their load and their counters, in the maps of the packet path.

use crate::{abi_struct, endian::Be16};

/// Whether a backend takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendState {
    /// The entry is not in use.
    Free = 0,
    /// New flows, and those that exist.
    Up = 1,
    /// No new flows, only those that exist.
    Draining = 2,
    /// No packets. The policy `on_backend_down` of the service decides about its flows.
    Down = 3,
}

impl BackendState {
    /// From the number in a map; anything unknown is [`BackendState::Free`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Up,
            2 => Self::Draining,
            3 => Self::Down,
            _ => Self::Free,
        }
    }
}

/// State, generation and port of a backend in one 64-bit word, so that one load reads all three
/// consistently.
///
/// Bits 0–31 generation, 32–39 state, 40–47 family (4 or 6), 48–63 port in network byte order.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct BackendStatus(pub u64);

impl BackendStatus {
    /// Packs the parts.
    pub const fn new(state: BackendState, generation: u32, family: u8, port: Be16) -> Self {
        Self(generation as u64 | (state as u64) << 32 | (family as u64) << 40 | (port.memory() as u64) << 48)
    }

    /// The same backend in another state.
    #[must_use]
    pub const fn with_state(self, state: BackendState) -> Self {
        Self::new(state, self.generation(), self.family(), self.port())
    }

    /// The entry after the backend was removed: it has the next generation, so that flows of the
    /// removed one end.
    #[must_use]
    pub const fn freed(self) -> Self {
        Self::new(
            BackendState::Free,
            self.generation().wrapping_add(1),
            self.family(),
            self.port(),
        )
    }

    /// Distinguishes the backends that used this entry one after another.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// Whether it takes packets.
    #[inline(always)]
    pub const fn state(self) -> BackendState {
        BackendState::from_number((self.0 >> 32) as u8)
    }

    /// Address family: 4 or 6.
    #[inline(always)]
    pub const fn family(self) -> u8 {
        (self.0 >> 40) as u8
    }

    /// Port, in network byte order.
    #[inline(always)]
    pub const fn port(self) -> Be16 {
        Be16::from_memory((self.0 >> 48) as u16)
    }
}

impl core::fmt::Debug for BackendStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BackendStatus")
            .field("state", &self.state())
            .field("generation", &self.generation())
            .field("family", &self.family())
            .field("port", &self.port())
            .finish()
    }
}

abi_struct! {
    /// An entry of the map `BACKENDS`.
    ///
    /// `status` is written last when an entry is filled, and first when it is emptied.
    pub struct Backend {
        /// State, generation, family and port.
        pub status: BackendStatus,
        /// Index of its service in `SERVICES`.
        pub service: u32,
        /// Index of its next hop in `NEXT_HOPS`.
        pub next_hop: u32,
        /// Address; IPv4 uses the first word. In the tunnel modes the remote end of the tunnel.
        pub address: [u32; 4],
        /// Virtual address of its service.
        pub virtual_address: [u32; 4],
        /// The tunnel modes' outer source address; the bits of `tunnel_spread` are zero.
        pub tunnel_source: [u32; 4],
        /// Bits of the last word in use of `tunnel_source` that are filled from a hash of the flow,
        /// in network byte order.
        pub tunnel_spread: u32,
        /// [`Mode`](crate::Mode) of its service.
        pub mode: u8,
        /// Address family of its service: 4 or 6.
        pub family: u8,
        /// UDP port of the worker for `gue`, in network byte order.
        pub tunnel_port: Be16,
        /// How many bytes the mode adds to a packet.
        pub overhead: u32,
        /// Always zero.
        pub reserved: u32,
    }
}

abi_struct! {
    /// An entry of the map `BACKEND_LOADS`: how many flows a backend has. Shared by all CPUs,
    /// changed atomically.
    pub struct BackendLoad {
        /// Half-open flows: without a complete handshake (TCP), or without a reply (UDP).
        pub embryonic: u32,
        /// Established flows.
        pub active: u32,
        /// All flows since the backend was added.
        pub total: u64,
    }
}

abi_struct! {
    /// An entry of the per-CPU map `BACKEND_COUNTERS`.
    pub struct BackendCounters {
        /// Packets sent to the backend.
        pub to_worker_packets: u64,
        /// Bytes sent to the backend, from the IP header on.
        pub to_worker_bytes: u64,
        /// Packets from the backend.
        pub to_client_packets: u64,
        /// Bytes from the backend, from the IP header on.
        pub to_client_bytes: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_word_keeps_its_parts() {
        let status = BackendStatus::new(BackendState::Down, 0xdead_beef, 6, Be16::from_host(8080));
        assert_eq!(status.state(), BackendState::Down);
        assert_eq!(status.generation(), 0xdead_beef);
        assert_eq!(status.family(), 6);
        assert_eq!(status.port().host(), 8080);
        assert_eq!(status.with_state(BackendState::Up).state(), BackendState::Up);
    }
}
