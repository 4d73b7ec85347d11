//! The table of Maglev hashing: which backend a hash leads to, so that little changes when backends come and go.
//!
//! After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4: "The basic
//! idea of Maglev hashing is to assign a preference list of all the lookup table positions to each backend. Then all the
//! backends take turns filling their most-preferred table positions that are still empty, until the lookup table is
//! completely filled in." Of weights it says that they "can be achieved by altering the relative frequency of the
//! backends' turns": here a backend of weight `w` takes its turn `k` at the time `(2k + 1) / 2w`, so that at any time each
//! has had its share of the turns to within half a turn.
//!
//! The preference list of a backend depends on its address and port alone, never on its index or on other backends:
//! every balancer with the same backends has the same table.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, SocketAddr},
};

/// A backend that takes turns.
pub(super) struct Candidate {
    /// What its preferences come from.
    pub(super) identity: SocketAddr,
    /// Its share; not 0.
    pub(super) weight: u32,
}

/// Positions in `candidates` for each of `slots`, which must be a prime above their number. Empty without candidates.
pub(super) fn table(candidates: &[Candidate], slots: u32) -> Vec<usize> {
    if candidates.is_empty() {
        return Vec::new();
    }
    const EMPTY: usize = usize::MAX;
    let mut table = vec![EMPTY; slots as usize];
    let mut preferences: Vec<_> = candidates
        .iter()
        .map(|candidate| Preferences::new(candidate.identity, slots))
        .collect();
    // The earliest turn first; of two at one time the one whose address is lower, whatever the order of the candidates.
    let mut turns: BinaryHeap<_> = candidates
        .iter()
        .enumerate()
        .map(|(position, candidate)| Reverse((time(0, candidate.weight), candidate.identity, position, 0_u64)))
        .collect();
    for _ in 0..slots {
        let Some(Reverse((_, identity, position, turn))) = turns.pop() else {
            break;
        };
        let slot = preferences[position].next_where(|slot| table[slot] == EMPTY);
        table[slot] = position;
        let next = time(turn + 1, candidates[position].weight);
        turns.push(Reverse((next, identity, position, turn + 1)));
    }
    table
}

/// When a backend takes its turn `k`: `(2k + 1) / 2w`, in units of 2⁻³².
fn time(k: u64, weight: u32) -> u64 {
    ((2 * k + 1) << 31) / u64::from(weight)
}

/// The order in which a backend wants the slots of the table: "permutation\[i\]\[j\] ← (offset + j × skip) mod M".
struct Preferences {
    next: u32,
    skip: u32,
    slots: u32,
}

impl Preferences {
    fn new(identity: SocketAddr, slots: u32) -> Self {
        Self {
            next: (hash(0x6f66_6673_6574, identity) % u64::from(slots)) as u32,
            skip: (hash(0x736b_6970, identity) % u64::from(slots - 1)) as u32 + 1,
            slots,
        }
    }

    /// The next slot of the list that is still wanted. At least one must be.
    fn next_where(&mut self, wanted: impl Fn(usize) -> bool) -> usize {
        loop {
            let slot = self.next;
            // Below twice the number of slots, which fits.
            self.next += self.skip;
            if self.next >= self.slots {
                self.next -= self.slots;
            }
            if wanted(slot as usize) {
                return slot as usize;
            }
        }
    }
}

/// A hash of address and port that is the same on every machine and in every version.
fn hash(seed: u64, identity: SocketAddr) -> u64 {
    let address = match identity.ip() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let words = [(address >> 64) as u64, address as u64, u64::from(identity.port())];
    words.into_iter().fold(mix(seed), |state, word| mix(state ^ word))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014): each bit of the result depends on each of `value`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
