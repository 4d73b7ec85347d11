//! Numbers in network byte order, distinguished from the host's by their type.

use core::fmt;

/// A 16-bit number in network byte order, such as a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From the host's byte order.
    #[inline(always)]
    pub const fn from_host(value: u16) -> Self {
        Self(value.to_be())
    }

    /// From network byte order, loaded as one native number.
    #[inline(always)]
    pub const fn from_memory(raw: u16) -> Self {
        Self(raw)
    }

    /// In the host's byte order.
    #[inline(always)]
    pub const fn host(self) -> u16 {
        u16::from_be(self.0)
    }

    /// In network byte order.
    #[inline(always)]
    pub const fn memory(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.host(), f)
    }
}

impl fmt::Display for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.host(), f)
    }
}
