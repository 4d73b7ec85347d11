//! The layout of a bucket: offsets of the parts of its entries.
//!
//! A cache line holds whole entries: a bucket is two lines of three entries for IPv4, and three
//! lines of two for IPv6. An entry in the first line costs one cache miss.

use super::Cells;
use crate::{
    abi::Abi,
    family::{Family, V4, V6},
    flow::Ports,
};

/// Number of slots of a bucket.
pub const SLOTS: usize = 6;

/// A bucket of IPv4 flows.
pub type BucketV4 = [u64; 16];
/// A bucket of IPv6 flows.
pub type BucketV6 = [u64; 24];

/// Offsets in a bucket, in bytes.
pub trait Layout: Family {
    /// A bucket: the value of the map.
    type Bucket: Abi;

    /// Number of slots in the first cache line.
    const FIRST_LINE: usize;

    /// Offset of the meta word.
    fn meta(slot: usize) -> usize;
    /// Offset of the binding.
    fn binding(slot: usize) -> usize;
    /// Zero if the key of a slot is this one.
    fn difference<C: Cells>(cells: C, slot: usize, address: &Self::Address, ports: Ports) -> u64;
    /// Reads the key.
    fn load_key<C: Cells>(cells: C, slot: usize) -> (Self::Address, Ports);
    /// Writes the key.
    fn store_key<C: Cells>(cells: C, slot: usize, address: &Self::Address, ports: Ports);
}

const LINE: usize = 64;

/// `slot / 3`; the target has no cheap division.
#[inline(always)]
const fn third(slot: usize) -> usize {
    (slot * 11) >> 5
}

impl V4 {
    /// Offset of the key, address before ports, after the meta words of its line.
    #[inline(always)]
    const fn key(slot: usize) -> usize {
        Self::at(slot) + 24
    }

    /// Offset of the meta word: three in a line.
    #[inline(always)]
    const fn at(slot: usize) -> usize {
        third(slot) * (LINE - 24) + slot * 8
    }
}

impl Layout for V4 {
    type Bucket = BucketV4;
    const FIRST_LINE: usize = 3;

    #[inline(always)]
    fn meta(slot: usize) -> usize {
        Self::at(slot)
    }

    #[inline(always)]
    fn binding(slot: usize) -> usize {
        third(slot) * (LINE - 12) + slot * 4 + 48
    }

    #[inline(always)]
    fn difference<C: Cells>(cells: C, slot: usize, address: &[u32; 1], ports: Ports) -> u64 {
        cells.load_u64(Self::key(slot)) ^ (address[0] as u64 | (ports.0 as u64) << 32)
    }

    #[inline(always)]
    fn load_key<C: Cells>(cells: C, slot: usize) -> ([u32; 1], Ports) {
        let key = cells.load_u64(Self::key(slot));
        ([key as u32], Ports((key >> 32) as u32))
    }

    #[inline(always)]
    fn store_key<C: Cells>(cells: C, slot: usize, address: &[u32; 1], ports: Ports) {
        cells.store_u64(Self::key(slot), address[0] as u64 | (ports.0 as u64) << 32);
    }
}

impl V6 {
    /// Offset of an entry: meta word, address, ports, binding.
    #[inline(always)]
    const fn at(slot: usize) -> usize {
        slot * 32
    }

    /// Offset of the address.
    #[inline(always)]
    const fn address(slot: usize) -> usize {
        Self::at(slot) + 8
    }

    /// Offset of the ports.
    #[inline(always)]
    const fn ports(slot: usize) -> usize {
        Self::at(slot) + 24
    }
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl Layout for V6 {
    type Bucket = BucketV6;
    const FIRST_LINE: usize = 2;

    #[inline(always)]
    fn meta(slot: usize) -> usize {
        Self::at(slot)
    }

    #[inline(always)]
    fn binding(slot: usize) -> usize {
        Self::at(slot) + 28
    }

    #[inline(always)]
    fn difference<C: Cells>(cells: C, slot: usize, address: &[u32; 4], ports: Ports) -> u64 {
        let offset = Self::address(slot);
        (cells.load_u64(offset) ^ pair(address[0], address[1]))
            | (cells.load_u64(offset + 8) ^ pair(address[2], address[3]))
            | (cells.load_u32(Self::ports(slot)) ^ ports.0) as u64
    }

    #[inline(always)]
    fn load_key<C: Cells>(cells: C, slot: usize) -> ([u32; 4], Ports) {
        let offset = Self::address(slot);
        let (low, high) = (cells.load_u64(offset), cells.load_u64(offset + 8));
        let address = [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32];
        (address, Ports(cells.load_u32(Self::ports(slot))))
    }

    #[inline(always)]
    fn store_key<C: Cells>(cells: C, slot: usize, address: &[u32; 4], ports: Ports) {
        let offset = Self::address(slot);
        cells.store_u64(offset, pair(address[0], address[1]));
        cells.store_u64(offset + 8, pair(address[2], address[3]));
        cells.store_u32(Self::ports(slot), ports.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset and length of each part of each slot.
    fn parts<F: Layout>(key: impl Fn(usize) -> [(usize, usize); 2]) -> Vec<(usize, usize)> {
        (0..SLOTS)
            .flat_map(|slot| {
                let [address, ports] = key(slot);
                [(F::meta(slot), 8), (F::binding(slot), 4), address, ports]
            })
            .collect()
    }

    fn assert_apart(mut parts: Vec<(usize, usize)>, bucket: usize) {
        parts.sort_unstable();
        for pair in parts.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} overlap");
        }
        for (offset, length) in parts {
            assert_eq!(offset % length.min(8), 0, "{offset} is not aligned");
            assert_eq!(offset / LINE, (offset + length - 1) / LINE, "{offset} crosses a line");
            assert!(offset + length <= bucket);
        }
    }

    #[test]
    fn parts_do_not_overlap_and_are_within_lines() {
        assert_apart(
            parts::<V4>(|slot| [(V4::key(slot), 4), (V4::key(slot) + 4, 4)]),
            size_of::<BucketV4>(),
        );
        assert_apart(
            parts::<V6>(|slot| [(V6::address(slot), 16), (V6::ports(slot), 4)]),
            size_of::<BucketV6>(),
        );
    }

    #[test]
    fn an_entry_is_within_one_line() {
        for slot in 0..SLOTS {
            assert_eq!(V4::meta(slot) / LINE, V4::key(slot) / LINE);
            assert_eq!(V4::meta(slot) / LINE, V4::binding(slot) / LINE);
            assert_eq!(V6::meta(slot) / LINE, V6::address(slot) / LINE);
            assert_eq!(V6::meta(slot) / LINE, V6::binding(slot) / LINE);
        }
    }
}
