//! A first look at an address: may it be one of ours?
//!
//! Most packets of a balancer that is also a host are none of its services', and a hash map look-up for each is dear. The
//! map `ADDRESS_CLASSES` is a table of bytes by a hash of the address. A byte of zero says: none of ours. Other bytes
//! say what to look for; by a collision they may say so in vain, never the other way round.

use crate::hash;

/// What an address may be: bits of a byte of the map `ADDRESS_CLASSES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressClass(pub u8);

impl AddressClass {
    /// A virtual address.
    pub const VIRTUAL: u8 = 1;
    /// A source address of `nat`.
    pub const SOURCE: u8 = 2;
    /// A worker that answers through the balancer as its router (`dnat`): look at the source of packets.
    pub const WORKER: u8 = 4;
    /// A virtual address with services that have more than one port.
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

/// Where the byte of an address lies: index of the entry in the map, and by how many bits its byte is shifted.
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
