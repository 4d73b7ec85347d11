//! Multiply hashes.

use crate::{Family, flow::FlowKey};

/// Mixes 32-bit words into one well-spread number, for choices that need spread, not secrecy.
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

/// Hashes a 5-tuple under a secret seed, so that no client can choose the bucket of its flows.
#[inline(always)]
pub fn tuple<F: Family>(seed: u64, key: &FlowKey<F>) -> u64 {
    let mut state = seed;
    let (source, destination) = (key.source.as_ref(), key.destination.as_ref());
    let mut i = 0;
    while i < source.len() && i < destination.len() {
        state = mix(state ^ (source[i] as u64 | (destination[i] as u64) << 32));
        i += 1;
    }
    mix(state ^ (key.ports.0 as u64 | (key.protocol as u64) << 32))
}

#[inline(always)]
const fn mix(state: u64) -> u64 {
    let state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let state = (state ^ state >> 32).wrapping_mul(0xa076_1d64_78bd_642f);
    state ^ state >> 32
}

/// Hashes a 5-tuple equally on every balancer, for choices that a peer must repeat.
#[inline(always)]
pub fn stable<F: Family>(key: &FlowKey<F>) -> u32 {
    (tuple(0x243f_6a88_85a3_08d3, key) >> 32) as u32
}

/// Hashes the first `prefix` bits of an address equally on every balancer.
#[inline(always)]
pub fn prefix<A: AsRef<[u32]>>(address: &A, prefix: u8) -> u32 {
    let mut state = 0x1319_8a2e_0370_7344_u64;
    let mut left = prefix as u32;
    let address = address.as_ref();
    let mut i = 0;
    while i < address.len() {
        let bits = if left > 32 { 32 } else { left };
        let mask = if bits == 0 {
            0
        } else {
            (u32::MAX << (32 - bits)).to_be()
        };
        state = mix(state ^ (address[i] & mask) as u64);
        left -= bits;
        i += 1;
    }
    (state >> 32) as u32
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
