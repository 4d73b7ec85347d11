//! Bytes that both ends of a transfer can compute, and a hash to compare them by.

use hyper::body::Bytes;

/// The first `length` bytes of a sequence that repeats at no length of a packet or buffer.
pub fn bytes(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        // Xorshift: any sequence will do as long as a lost, doubled or swapped segment changes the
        // hash.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(length);
    content.into()
}

/// FNV-1a, 64 bits, over any number of pieces.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Takes in one more piece.
    pub fn update(&mut self, piece: &[u8]) {
        for byte in piece {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash of all pieces so far.
    pub fn value(self) -> u64 {
        self.0
    }

    /// The hash of one piece.
    pub fn of(piece: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.update(piece);
        hash.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(Hash::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Hash::of(b"foobar"), 0x85944171f73967e8);
    }

    #[test]
    fn a_prefix_of_the_content_is_the_shorter_content() {
        assert_eq!(bytes(1001)[..500], bytes(500)[..]);
    }
}
