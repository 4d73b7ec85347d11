//! The two address families as type parameters.

use core::fmt::Debug;

/// An address family: [`V4`] or [`V6`].
pub trait Family: Copy + Eq + Debug + 'static {
    /// An address, in 32-bit words in network byte order.
    type Address: Copy + Eq + Debug + AsRef<[u32]> + AsMut<[u32]>;

    /// The address of all zeros.
    const UNSPECIFIED: Self::Address;
    /// Number of 32-bit words of an address.
    const WORDS: usize;
    /// Length of the header that this program rewrites, in bytes: the fixed part, without options.
    const HEADER: usize;
    /// The number that maps use for the family.
    const NUMBER: u8;

    /// The address that begins an array of four words, as services and backends hold it.
    fn narrow(words: &[u32; 4]) -> Self::Address;
    /// As [`Family::narrow`], without a copy.
    fn view(words: &[u32; 4]) -> &Self::Address;
    /// The address as four words; unused ones are zero.
    fn widen(address: &Self::Address) -> [u32; 4];
}

/// IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V4;

/// IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V6;

impl Family for V4 {
    type Address = [u32; 1];
    const UNSPECIFIED: [u32; 1] = [0];
    const WORDS: usize = 1;
    const HEADER: usize = crate::wire::ipv4::LENGTH;
    const NUMBER: u8 = 4;

    #[inline(always)]
    fn narrow(words: &[u32; 4]) -> [u32; 1] {
        [words[0]]
    }

    #[inline(always)]
    fn view(words: &[u32; 4]) -> &[u32; 1] {
        let [first, ..] = words;
        core::array::from_ref(first)
    }

    #[inline(always)]
    fn widen(address: &[u32; 1]) -> [u32; 4] {
        [address[0], 0, 0, 0]
    }
}

impl Family for V6 {
    type Address = [u32; 4];
    const UNSPECIFIED: [u32; 4] = [0; 4];
    const WORDS: usize = 4;
    const HEADER: usize = crate::wire::ipv6::LENGTH;
    const NUMBER: u8 = 6;

    #[inline(always)]
    fn narrow(words: &[u32; 4]) -> [u32; 4] {
        *words
    }

    #[inline(always)]
    fn view(words: &[u32; 4]) -> &[u32; 4] {
        words
    }

    #[inline(always)]
    fn widen(address: &[u32; 4]) -> [u32; 4] {
        *address
    }
}

/// Conversions between addresses of the standard library and words as they lie in a packet.
pub mod address {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// The words of an address; unused ones are zero.
    pub fn to_words(address: IpAddr) -> [u32; 4] {
        match address {
            IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                core::array::from_fn(|i| {
                    u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
                })
            }
        }
    }

    /// The address that four words hold; `None` when `family` is neither 4 nor 6.
    pub fn from_words(family: u8, words: [u32; 4]) -> Option<IpAddr> {
        match family {
            4 => Some(IpAddr::V4(Ipv4Addr::from(words[0].to_ne_bytes()))),
            6 => {
                let mut octets = [0; 16];
                for (chunk, word) in octets.chunks_exact_mut(4).zip(words) {
                    chunk.copy_from_slice(&word.to_ne_bytes());
                }
                Some(IpAddr::V6(Ipv6Addr::from(octets)))
            }
            _ => None,
        }
    }

    /// The family number of an address: 4 or 6.
    pub const fn family(address: IpAddr) -> u8 {
        if address.is_ipv4() { 4 } else { 6 }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn words_and_addresses_convert_in_both_directions() {
            for text in ["192.0.2.1", "2001:db8::1", "::", "255.255.255.255"] {
                let address: IpAddr = text.parse().unwrap();
                assert_eq!(from_words(family(address), to_words(address)), Some(address));
            }
            assert_eq!(from_words(0, [0; 4]), None);
        }

        #[test]
        fn words_lie_in_memory_as_on_the_wire() {
            let words = to_words("192.0.2.1".parse().unwrap());
            assert_eq!(words[0].to_ne_bytes(), [192, 0, 2, 1]);
        }
    }
}
