//! Incremental Internet checksums.
//!
//! RFC 1624, section 3: "HC' = ~(~HC + ~m + m')". Sums are over numbers in network byte order: the
//! one's complement sum does not depend on byte order (RFC 1071, section 2 (B)).

/// The change of a checksum by changed words that it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// A 16-bit word changed from `old` to `new`.
    #[inline(always)]
    pub fn word16(&mut self, old: u16, new: u16) {
        self.0 += (!old) as u64 + new as u64;
    }

    /// A 32-bit word changed from `old` to `new`. It must begin at an even offset of what the
    /// checksum covers.
    #[inline(always)]
    pub fn word32(&mut self, old: u32, new: u32) {
        self.0 += (!old) as u64 + new as u64;
    }

    /// The checksum after the change.
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u64)
    }

    /// The checksum of a UDP datagram after the change.
    ///
    /// RFC 768: "If the computed checksum is zero, it is transmitted as all ones [...]. An all zero
    /// transmitted checksum value means that the transmitter generated no checksum": such a
    /// datagram keeps its zero.
    #[inline(always)]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            other => other,
        }
    }
}

/// The one's complement sum of many words, folded into 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum over a whole byte string; an odd last byte is padded with zero (RFC 1071, section
/// 1).
pub fn full(bytes: &[u8], mut sum: u64) -> u16 {
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        sum += u16::from_ne_bytes([pair[0], pair[1]]) as u64;
    }
    if let [last] = pairs.remainder() {
        sum += u16::from_ne_bytes([*last, 0]) as u64;
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1624_section_4() {
        // "HC = 0xDD2F, m = 0x5555, m' = 0x3285: HC' = 0x0000"
        let mut delta = Delta::NONE;
        delta.word16(0x5555, 0x3285);
        assert_eq!(delta.apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_udp_checksum_of_zero_stays_and_a_computed_zero_becomes_all_ones() {
        let mut delta = Delta::NONE;
        delta.word16(0x5555, 0x3285);
        assert_eq!(delta.apply_udp(0), 0);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
    }

    proptest! {
        #[test]
        fn an_incremental_update_equals_a_full_computation(
            mut bytes in prop::collection::vec(any::<u8>(), 8..80),
            at in 0usize..18,
            new in any::<u32>(),
            new_short in any::<u16>(),
        ) {
            // A zero message has two representations of its checksum; headers are never all zero.
            bytes[0] |= 0x45;
            let at = (at * 2).min((bytes.len() - 6) & !1).max(2);
            let before = full(&bytes, 0);
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            let old_short = u16::from_ne_bytes(bytes[at + 4..].get(..2).unwrap().try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            bytes[at + 4..at + 6].copy_from_slice(&new_short.to_ne_bytes());
            let mut delta = Delta::NONE;
            delta.word32(old, new);
            delta.word16(old_short, new_short);
            prop_assert_eq!(delta.apply(before), full(&bytes, 0));
        }

        #[test]
        fn folding_keeps_the_value_modulo_65535(sum in 1u64..) {
            let folded = fold(sum);
            prop_assert_eq!(u64::from(folded) % 65535, sum % 65535);
            prop_assert_ne!(folded, 0);
        }
    }
}
