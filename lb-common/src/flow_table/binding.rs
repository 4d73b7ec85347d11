//! The NAT binding and the client hop of a flow: one 32-bit word of its entry.

use crate::endian::Be16;

/// NAT binding and client hop.
///
/// Bits 0–15 the destination port of the worker's replies, in network byte order; 16–29 index in
/// the map `CLIENT_HOPS`; 30–31 index of the NAT source among those of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Binding(pub u32);

/// Number of entries of the map `CLIENT_HOPS`. The first means: unknown.
pub const HOPS: usize = 1 << 14;

impl Binding {
    /// The bits of the NAT binding.
    pub const REPLIES: u32 = 0xc000_ffff;

    /// Packs the parts. `hop` is below [`HOPS`], `source` below
    /// [`MAX_SOURCES`](crate::service::MAX_SOURCES).
    #[inline(always)]
    pub const fn new(port: Be16, hop: u32, source: u32) -> Self {
        Self(port.memory() as u32 | (hop & (HOPS as u32 - 1)) << 16 | source << 30)
    }

    /// The destination port of the worker's replies.
    #[inline(always)]
    pub const fn port(self) -> Be16 {
        Be16::from_memory(self.0 as u16)
    }

    /// Index in the map `CLIENT_HOPS`.
    #[inline(always)]
    pub const fn hop(self) -> u32 {
        self.0 >> 16 & (HOPS as u32 - 1)
    }

    /// Index of the NAT source among those of the service.
    #[inline(always)]
    pub const fn source(self) -> u32 {
        self.0 >> 30
    }

    /// The same binding with another client hop.
    #[inline(always)]
    #[must_use]
    pub const fn with_hop(self, hop: u32) -> Self {
        Self::new(self.port(), hop, self.source())
    }
}
