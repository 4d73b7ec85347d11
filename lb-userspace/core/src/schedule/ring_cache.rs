//! Cache of digests of rings, so that an unchanged ring of 65537 slots is recognized without
//! building it again.

use std::collections::HashMap;

use lb_common::{RingSlot, Scheduler, abi::Abi};

use super::Member;

/// Identifies the content of a ring: its length in slots and a hash of the slots in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    length: u32,
    hash: u64,
}

impl Digest {
    /// Digest of slots, each given as its 8 bytes in memory.
    pub fn of_words(words: impl Iterator<Item = u64>) -> Self {
        // Not cryptographic: no attacker chooses slots. Each bit of the hash depends on each slot
        // and its position.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        words.fold(Self::default(), |digest, word| {
            let product = u128::from(digest.hash ^ word ^ FACTOR) * u128::from(FACTOR);
            Self {
                length: digest.length + 1,
                hash: (product as u64 ^ (product >> 64) as u64).wrapping_add(FACTOR),
            }
        })
    }

    /// Digest of slots.
    pub fn of(slots: &[RingSlot]) -> Self {
        let word = |slot: &RingSlot| slot.as_bytes().try_into().map_or(0, u64::from_ne_bytes);
        Self::of_words(slots.iter().map(word))
    }
}

/// Inputs and digest of the last ring of each service, by index of the service. Losing an entry
/// only costs time.
#[derive(Clone, Debug, Default)]
pub struct RingCache(HashMap<u32, Cached>);

#[derive(Clone, Debug)]
struct Cached {
    scheduler: Scheduler,
    members: Vec<Member>,
    digest: Digest,
}

impl RingCache {
    /// Digest of the ring of a service, if the last one was built from the same scheduler and
    /// members.
    pub fn digest(&self, service: u32, scheduler: Scheduler, members: &[Member]) -> Option<Digest> {
        let cached = self.0.get(&service)?;
        (cached.scheduler == scheduler && cached.members == members).then_some(cached.digest)
    }

    /// Stores inputs and digest of a ring.
    pub fn note(&mut self, service: u32, scheduler: Scheduler, members: Vec<Member>, digest: Digest) {
        let cached = Cached {
            scheduler,
            members,
            digest,
        };
        self.0.insert(service, cached);
    }

    /// Drops services for which `is_kept` is false.
    pub fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.0.retain(|service, _| is_kept(*service));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(backends: &[u32]) -> Digest {
        let slots: Vec<_> = backends
            .iter()
            .map(|backend| RingSlot {
                backend: *backend,
                weight: 1,
            })
            .collect();
        Digest::of(&slots)
    }

    #[test]
    fn rings_that_differ_in_slots_order_or_length_have_different_digests() {
        let rings: [&[u32]; 7] = [&[], &[0], &[0, 0], &[1, 2, 3], &[2, 1, 3], &[1, 3, 2], &[1, 2, 4]];
        for (first, one) in rings.iter().enumerate() {
            for (second, other) in rings.iter().enumerate() {
                assert_eq!(slots(one) == slots(other), first == second, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_digest_is_found_only_for_the_same_members_and_scheduler() {
        let member = |weight| Member {
            backend: 1,
            weight,
            identity: "10.0.0.1:80".parse().unwrap(),
        };
        let digest = slots(&[1]);
        let mut cache = RingCache::default();
        cache.note(7, Scheduler::Maglev, vec![member(1)], digest);
        assert_eq!(cache.digest(7, Scheduler::Maglev, &[member(1)]), Some(digest));
        assert_eq!(cache.digest(7, Scheduler::Random, &[member(1)]), None);
        assert_eq!(cache.digest(7, Scheduler::Maglev, &[member(2)]), None);
        assert_eq!(cache.digest(8, Scheduler::Maglev, &[member(1)]), None);
        cache.retain(|service| service != 7);
        assert_eq!(cache.digest(7, Scheduler::Maglev, &[member(1)]), None);
    }
}
