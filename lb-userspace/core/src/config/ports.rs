//! A range of ports.

use std::fmt;

use serde::Serialize;

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortRange {
    /// First port.
    pub low: u16,
    /// Last port, at least `low`.
    pub high: u16,
}

impl PortRange {
    /// Number of ports.
    pub fn count(self) -> u32 {
        u32::from(self.high) - u32::from(self.low) + 1
    }

    /// Whether the range has `port`.
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// Whether both ranges have a port in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    /// The range as the fewest aligned blocks. A block is all ports with the same leading bits:
    /// first port, and number of leading bits (0 to 16).
    pub fn blocks(self) -> Vec<(u16, u8)> {
        let mut blocks = Vec::new();
        let (mut next, end) = (u32::from(self.low), u32::from(self.high) + 1);
        while next < end {
            // The largest aligned block that starts here and ends within the range.
            let aligned = next.trailing_zeros().min(u16::BITS);
            let size = aligned.min((end - next).ilog2());
            blocks.push((next as u16, (u16::BITS - size) as u8));
            next += 1 << size;
        }
        blocks
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(low: u16, high: u16) -> Vec<(u16, u8)> {
        PortRange { low, high }.blocks()
    }

    #[test]
    fn ranges_are_cut_into_aligned_blocks() {
        for (low, high, expected) in [
            (80, 80, vec![(80, 16)]),
            (8000, 8001, vec![(8000, 15)]),
            (8001, 8002, vec![(8001, 16), (8002, 16)]),
            (8000, 8099, vec![(8000, 10), (8064, 11), (8096, 14)]),
            (65534, 65535, vec![(65534, 15)]),
            (32768, 65535, vec![(32768, 1)]),
            (0, 65535, vec![(0, 0)]),
        ] {
            assert_eq!(blocks(low, high), expected, "{low}-{high}");
        }
        assert_eq!(blocks(1, 65535).len(), 16);
        assert_eq!(blocks(1, 65534).len(), 30, "no range takes more");
    }

    proptest! {
        #[test]
        fn the_blocks_of_a_range_are_its_ports_and_each_once(a in any::<u16>(), b in any::<u16>()) {
            let (low, high) = (a.min(b), a.max(b));
            let mut next = u32::from(low);
            for (first, bits) in blocks(low, high) {
                prop_assert_eq!(u32::from(first), next);
                prop_assert_eq!(u32::from(first) % (1 << (16 - bits)), 0, "aligned");
                next += 1 << (16 - bits);
            }
            prop_assert_eq!(next, u32::from(high) + 1);
        }
    }
}
