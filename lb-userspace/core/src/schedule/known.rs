//! Rings that were built before: what a ring of 65537 slots holds is told from a few bytes, without building it again.

use std::collections::HashMap;

use lb_common::{RingSlot, Scheduler, abi::Abi};

use super::Member;

/// What tells rings apart: how many slots they have, and a hash of the slots in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    length: u32,
    hash: u64,
}

impl Digest {
    /// Of slots as they lie in memory.
    pub fn of_words(words: impl Iterator<Item = u64>) -> Self {
        // Nobody chooses slots in order to collide; each bit of the hash depends on each slot and its place.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        words.fold(Self::default(), |digest, word| {
            let product = u128::from(digest.hash ^ word ^ FACTOR) * u128::from(FACTOR);
            Self {
                length: digest.length + 1,
                hash: (product as u64 ^ (product >> 64) as u64).wrapping_add(FACTOR),
            }
        })
    }

    /// Of slots.
    pub fn of(slots: &[RingSlot]) -> Self {
        let word = |slot: &RingSlot| slot.as_bytes().try_into().map_or(0, u64::from_ne_bytes);
        Self::of_words(slots.iter().map(word))
    }
}

/// What the rings of services were built from lately, by index of the service. To forget it costs time, nothing else.
#[derive(Clone, Debug, Default)]
pub struct KnownRings(HashMap<u32, Known>);

#[derive(Clone, Debug)]
struct Known {
    scheduler: Scheduler,
    members: Vec<Member>,
    digest: Digest,
}

impl KnownRings {
    /// What the ring of a service would be, if it was built from the same before.
    pub fn digest(&self, service: u32, scheduler: Scheduler, members: &[Member]) -> Option<Digest> {
        let known = self.0.get(&service)?;
        (known.scheduler == scheduler && known.members == members).then_some(known.digest)
    }

    /// Keeps what a ring was built from.
    pub fn note(&mut self, service: u32, scheduler: Scheduler, members: Vec<Member>, digest: Digest) {
        let known = Known {
            scheduler,
            members,
            digest,
        };
        self.0.insert(service, known);
    }

    /// Forgets services that are no more.
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
    fn rings_that_differ_in_a_slot_or_in_their_order_or_length_have_other_digests() {
        let rings: [&[u32]; 7] = [&[], &[0], &[0, 0], &[1, 2, 3], &[2, 1, 3], &[1, 3, 2], &[1, 2, 4]];
        for (first, one) in rings.iter().enumerate() {
            for (second, other) in rings.iter().enumerate() {
                assert_eq!(slots(one) == slots(other), first == second, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_ring_is_known_only_of_the_same_members_and_scheduler() {
        let member = |weight| Member {
            backend: 1,
            weight,
            identity: "10.0.0.1:80".parse().unwrap(),
        };
        let digest = slots(&[1]);
        let mut known = KnownRings::default();
        known.note(7, Scheduler::Maglev, vec![member(1)], digest);
        assert_eq!(known.digest(7, Scheduler::Maglev, &[member(1)]), Some(digest));
        assert_eq!(known.digest(7, Scheduler::Random, &[member(1)]), None);
        assert_eq!(known.digest(7, Scheduler::Maglev, &[member(2)]), None);
        assert_eq!(known.digest(8, Scheduler::Maglev, &[member(1)]), None);
        known.retain(|service| service != 7);
        assert_eq!(known.digest(7, Scheduler::Maglev, &[member(1)]), None);
    }
}
