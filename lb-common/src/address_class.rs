//! Address classes: whether an address can be one of this balancer's.
//!
//! Most packets of a host belong to no service, and a hash map look-up for each is expensive. The
//! map `ADDRESS_CLASSES` is a table of bytes, indexed by a hash of the address. A byte of zero
//! means: not one of ours. Other bytes say what to look for. A collision can set a bit for another
//! address, but never clear one.

use crate::hash;

/// What an address can be: bits of a byte of the map `ADDRESS_CLASSES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressClass(pub u8);

impl AddressClass {
    /// A virtual address.
    pub const VIRTUAL: u8 = 1;
    /// A NAT source.
    pub const SOURCE: u8 = 2;
    /// A worker of `dnat`, which replies through the balancer as its router: the source of packets
    /// decides.
    pub const WORKER: u8 = 4;
    /// A virtual address with services that have a port range.
    pub const RANGES: u8 = 8;

    /// Whether any of these bits is set.
    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// Number of bytes of the table.
pub const CLASSES: usize = 1 << 16;
/// Number of 64-bit words of the table: entries of the map.
pub const WORDS: usize = CLASSES / 8;

/// The place of an address's byte: index of the entry in the map, and shift in the entry in bits.
#[inline(always)]
pub fn place(address: &[u32]) -> (u32, u32) {
    let byte = hash::words(0, address) & (CLASSES as u32 - 1);
    (byte >> 3, (byte & 7) * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_addresses_have_bytes_of_their_own() {
        let mut places: Vec<_> = (0..200_u32)
            .map(|host| place(&[(0x0a4d_0000 + host).to_be()]))
            .collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 195, "{}", places.len());
        assert!(
            places
                .iter()
                .all(|(word, shift)| (*word as usize) < WORDS && *shift <= 56)
        );
    }
}
