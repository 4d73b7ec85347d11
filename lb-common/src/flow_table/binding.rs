//! What binds a flow to addresses beyond its own: one 32-bit word of a table entry.

use crate::endian::Be16;

/// Bits 0–15 the port that the worker answers to, in network byte order; 16–29 where the client's packets come from, an
/// index in the map `CLIENT_HOPS`; 30–31 which of the service's source addresses the worker answers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Binding(pub u32);

/// Number of entries of the map `CLIENT_HOPS`. The first means: not known.
pub const HOPS: usize = 1 << 14;

impl Binding {
    /// The bits that say where the worker answers to.
    pub const REPLIES: u32 = 0xc000_ffff;

    /// Packs the parts. `hop` is below [`HOPS`], `source` below [`MAX_SOURCES`](crate::service::MAX_SOURCES).
    #[inline(always)]
    pub const fn new(port: Be16, hop: u32, source: u32) -> Self {
        Self(port.memory() as u32 | (hop & (HOPS as u32 - 1)) << 16 | source << 30)
    }

    /// The port that the worker answers to.
    #[inline(always)]
    pub const fn port(self) -> Be16 {
        Be16::from_memory(self.0 as u16)
    }

    /// Index in the map `CLIENT_HOPS`.
    #[inline(always)]
    pub const fn hop(self) -> u32 {
        self.0 >> 16 & (HOPS as u32 - 1)
    }

    /// Which of the service's source addresses.
    #[inline(always)]
    pub const fn source(self) -> u32 {
        self.0 >> 30
    }

    /// The same with packets of the client coming from elsewhere.
    #[inline(always)]
    #[must_use]
    pub const fn with_hop(self, hop: u32) -> Self {
        Self::new(self.port(), hop, self.source())
    }
}
