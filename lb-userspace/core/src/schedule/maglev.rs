//! Builds the lookup table of Maglev hashing: few slots change when backends are added or removed.
//!
//! After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4: "The basic idea of Maglev hashing is to assign a preference list of all the lookup
//! table positions to each backend. Then all the backends take turns filling their most-preferred
//! table positions that are still empty, until the lookup table is completely filled in." Weights
//! "can be achieved by altering the relative frequency of the backends' turns": here a backend of
//! weight `w` takes its turn `k` at the time `(2k + 1) / 2w`, so that at any time each has had its
//! share of the turns to within half a turn.
//!
//! The preference list of a backend depends only on its address and port, not on its index or on
//! other backends. So every balancer with the same backends has the same table.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, SocketAddr},
};

/// A backend of the table.
pub(super) struct Candidate {
    /// Address and port, from which its preference list is computed.
    pub(super) identity: SocketAddr,
    /// Share of the slots relative to the other backends; not 0.
    pub(super) weight: u32,
}

/// For each of `slots`, a position in `candidates`. `slots` must be a prime above their number.
/// Empty without candidates.
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
    // The earliest turn first. At the same time the lower address goes first, so the order of
    // `candidates` does not matter.
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

/// Time of turn `k` of a backend of weight `w`: `(2k + 1) / 2w`, in units of 2⁻³².
fn time(k: u64, weight: u32) -> u64 {
    ((2 * k + 1) << 31) / u64::from(weight)
}

/// The preference list of a backend: "permutation\[i\]\[j\] ← (offset + j × skip) mod M".
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

    /// The next slot of the list for which `wanted` holds. At least one must exist.
    fn next_where(&mut self, wanted: impl Fn(usize) -> bool) -> usize {
        loop {
            let slot = self.next;
            // Less than twice `slots`, so it does not overflow.
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

/// Hash of address and port. Must never change: balancers of different versions share tables.
fn hash(seed: u64, identity: SocketAddr) -> u64 {
    let address = match identity.ip() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let words = [(address >> 64) as u64, address as u64, u64::from(identity.port())];
    words.into_iter().fold(mix(seed), |state, word| mix(state ^ word))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014): each bit of the result depends on each
/// of `value`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const SLOTS: u32 = lb_common::service::MAGLEV_SLOTS;

    fn candidate(host: u32, weight: u32) -> Candidate {
        let identity = SocketAddr::new(IpAddr::from((0x0a00_0000 + host).to_be_bytes()), 80);
        Candidate { identity, weight }
    }

    /// The table by identity, so that tables of different backends can be compared.
    fn table_of(candidates: &[Candidate]) -> Vec<SocketAddr> {
        let table = table(candidates, SLOTS);
        table
            .into_iter()
            .map(|position| candidates[position].identity)
            .collect()
    }

    fn hosts(hosts: impl Iterator<Item = u32>) -> Vec<Candidate> {
        hosts.map(|host| candidate(host, 1)).collect()
    }

    /// How many slots another backend has in `after`, though the one in `before` is not gone.
    fn disrupted(before: &[SocketAddr], after: &[SocketAddr], gone: &[SocketAddr]) -> usize {
        let pairs = before.iter().zip(after);
        pairs
            .filter(|(before, after)| before != after && !gone.contains(before))
            .count()
    }

    #[test]
    fn the_table_of_the_paper_is_filled_by_turns() {
        // Table 1 of the paper: M = 7, and three backends with the offsets and skips of its
        // example.
        let mut lists = [(3, 4), (0, 2), (3, 1)].map(|(next, skip)| Preferences { next, skip, slots: 7 });
        let mut table = [None; 7];
        for turn in 0..7 {
            let backend = turn % lists.len();
            let slot = lists[backend].next_where(|slot| table[slot].is_none());
            table[slot] = Some(backend);
        }
        assert_eq!(table.map(Option::unwrap), [1, 0, 1, 0, 2, 2, 0]);
    }

    #[test]
    fn a_preference_list_has_every_slot_once() {
        for host in 0..20 {
            let mut list = Preferences::new(candidate(host, 1).identity, SLOTS);
            let mut seen = vec![false; SLOTS as usize];
            for _ in 0..SLOTS {
                let slot = list.next_where(|slot| !seen[slot]);
                seen[slot] = true;
            }
            assert!(seen.into_iter().all(|slot| slot));
        }
    }

    #[test]
    fn the_table_does_not_change_from_version_to_version() {
        let table = table(&hosts(1..4), SLOTS);
        // Balancers of different versions must agree.
        assert_eq!(table[..16], [2, 0, 1, 2, 1, 0, 2, 1, 2, 2, 1, 1, 2, 1, 0, 1]);
    }

    #[test]
    fn an_empty_service_has_no_table_and_a_single_backend_has_all_of_it() {
        assert_eq!(table(&[], SLOTS), Vec::<usize>::new());
        assert_eq!(table(&hosts(5..6), SLOTS), vec![0; SLOTS as usize]);
    }

    /// Section 3.4: "Each backend will take either ⌊M/N⌋ or ⌈M/N⌉ entries in the lookup table.
    /// Therefore the number of entries occupied by different backends will differ by at most 1. In
    /// practice, we choose M to be larger than 100 × N to ensure at most a 1% difference in hash
    /// space assigned to backends."
    #[test]
    fn with_a_hundred_slots_per_backend_shares_differ_by_at_most_a_percent() {
        let table = table(&hosts(0..655), SLOTS);
        let mut shares = vec![0_u32; 655];
        table.iter().for_each(|position| shares[*position] += 1);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{least} to {most}");
    }

    /// The slots of a removed backend go to others. The paper measures how many other slots move,
    /// but gives no bound: "the ratio of changed entries increases with the number of concurrent
    /// failures. Maglev hashing is more resilient to backend changes when the table size is larger"
    /// (section 5.3, with N = 1000 and M = 65537). The bound here, for one backend, is a hundredth
    /// of the table; about two thirds of that are observed.
    #[test]
    fn adding_or_removing_one_backend_moves_at_most_a_hundredth_of_the_other_slots() {
        for count in [2, 3, 10, 100, 1000] {
            let all = table_of(&hosts(0..count));
            for one in [0, count / 2, count - 1] {
                let identity = candidate(one, 1).identity;
                let rest = table_of(&hosts((0..count).filter(|host| *host != one)));
                let moved = disrupted(&all, &rest, &[identity]);
                assert!(moved <= SLOTS as usize / 100, "{one} of {count}: {moved} slots move");
                assert!(!rest.contains(&identity));
            }
        }
    }

    #[test]
    fn a_weight_change_of_one_backend_moves_few_slots_between_the_others() {
        let with = |weight| {
            let candidates: Vec<_> = (0..20)
                .map(|host| candidate(host, if host == 0 { weight } else { 10 }))
                .collect();
            table_of(&candidates)
        };
        let (before, after) = (with(10), with(20));
        let identity = candidate(0, 1).identity;
        let between_others = before.iter().zip(&after);
        let moved = between_others
            .filter(|(b, a)| a != b && **a != identity && **b != identity)
            .count();
        assert!(
            moved <= SLOTS as usize / 50,
            "{moved} slots move between unchanged backends"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_backend_has_the_share_of_its_weight(weights in vec(1_u32..1001, 1..40)) {
            let candidates: Vec<_> = (0..).zip(&weights).map(|(host, weight)| candidate(host, *weight)).collect();
            let table = table(&candidates, SLOTS);
            let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (position, weight) in weights.iter().enumerate() {
                let have = table.iter().filter(|slot| **slot == position).count() as f64;
                let due = f64::from(*weight) * f64::from(SLOTS) / sum as f64;
                prop_assert!((have - due).abs() <= 1.5, "{have} slots for {due}");
            }
        }

        #[test]
        fn the_table_does_not_depend_on_the_order_of_backends(
            (hosts, shuffled) in vec((0_u32..1000, 1_u32..20), 1..20)
                .prop_map(|mut hosts| { hosts.sort(); hosts.dedup_by_key(|(host, _)| *host); hosts })
                .prop_flat_map(|hosts| (Just(hosts.clone()), Just(hosts).prop_shuffle()))
        ) {
            let build = |hosts: &[(u32, u32)]| {
                let candidates: Vec<_> = hosts.iter().map(|&(host, weight)| candidate(host, weight)).collect();
                table_of(&candidates)
            };
            prop_assert_eq!(build(&hosts), build(&shuffled));
        }
    }
}
