//! A multiply hash for choices that need spread, not secrecy.

/// Mixes 32-bit words into one well-spread number.
#[inline(always)]
pub fn words(seed: u32, words: &[u32]) -> u32 {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut i = 0;
    while i < words.len() {
        state = (state ^ words[i] as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        state ^= state >> 32;
        i += 1;
    }
    state as u32
}

/// Maps a hash evenly onto `0..count` without a division. Returns 0 when `count` is 0.
#[inline(always)]
pub const fn reduce(hash: u32, count: u32) -> u32 {
    ((hash as u64 * count as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_clients_spread_evenly() {
        let mut buckets = [0u32; 16];
        for client in 0..16_000u32 {
            buckets[reduce(words(7, &[0x0a00_0000 + client, 443]), 16) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| (800..1200).contains(n)), "{buckets:?}");
    }
}
