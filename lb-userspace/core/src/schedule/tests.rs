//! Tests of rings, as tables and properties.

use super::*;
use Scheduler::{LeastConnection, Maglev, Random, RoundRobin, SourceHash};
use proptest::{collection::vec, prelude::*};

/// Backends by index, at addresses of their own.
fn members(backends: &[(u32, u32)]) -> Vec<Member> {
    let member = |&(backend, weight): &(u32, u32)| Member {
        backend,
        weight,
        identity: SocketAddr::new((0x0a00_0000 + backend).to_be_bytes().into(), 80),
    };
    backends.iter().map(member).collect()
}

/// A ring that may be as long as it has to.
fn built(scheduler: Scheduler, backends: &[(u32, u32)]) -> Vec<RingSlot> {
    ring(scheduler, &members(backends), u32::MAX).unwrap()
}

fn order(scheduler: Scheduler, backends: &[(u32, u32)]) -> Vec<u32> {
    built(scheduler, backends).iter().map(|slot| slot.backend).collect()
}

fn weights(backends: &[(u32, u32)]) -> impl Iterator<Item = u32> {
    backends.iter().map(|(_, weight)| *weight)
}

fn count(ring: &[RingSlot], backend: u32) -> u64 {
    ring.iter().filter(|slot| slot.backend == backend).count() as u64
}

fn gcd_of(backends: &[(u32, u32)]) -> u64 {
    smooth::sum_and_divisor(weights(backends).map(u64::from)).1
}

#[test]
fn a_ring_above_the_largest_length_is_not_built() {
    // Weights that would take 32 GiB.
    let backends = members(&[(1, u32::MAX), (2, 1), (3, u32::MAX - 1)]);
    assert_eq!(ring(RoundRobin, &backends, 1 << 24), None);
    assert_eq!(ring(Random, &backends, u32::MAX), None);
    assert_eq!(ring(LeastConnection, &backends, 3).unwrap().len(), 3);
    let three = members(&[(1, 2), (2, 1)]);
    for (most, then) in [(2, None), (3, Some(3))] {
        assert_eq!(ring(RoundRobin, &three, most).map(|ring| ring.len()), then);
    }
}

#[test]
fn rings_of_small_services_are_laid_out_as_expected() {
    type Backends<'a> = &'a [(u32, u32)];
    let table: &[(Scheduler, Backends, &[u32])] = &[
        (RoundRobin, &[], &[]),
        (RoundRobin, &[(4, 0)], &[]),
        (RoundRobin, &[(4, 7)], &[4]),
        (RoundRobin, &[(4, 10), (9, 10), (2, 10)], &[4, 9, 2]),
        (RoundRobin, &[(4, 1), (9, 0), (2, 1)], &[4, 2]),
        (RoundRobin, &[(1, 2), (2, 1)], &[1, 2, 1]),
        (RoundRobin, &[(1, 4), (2, 2)], &[1, 2, 1]),
        (RoundRobin, &[(1, 5), (2, 1), (3, 1)], &[1, 1, 1, 2, 1, 3, 1]),
        (RoundRobin, &[(1, 3), (2, 3), (3, 2)], &[1, 2, 3, 1, 2, 3, 1, 2]),
        (RoundRobin, &[(1, 1), (2, 4)], &[2, 2, 2, 1, 2]),
        (Random, &[(1, 5), (2, 1), (3, 1)], &[1, 1, 1, 2, 1, 3, 1]),
        (LeastConnection, &[], &[]),
        (Maglev, &[], &[]),
        (SourceHash, &[(1, 0)], &[]),
        (LeastConnection, &[(1, 5), (2, 0), (3, 10)], &[1, 3]),
    ];
    for (scheduler, backends, expected) in table {
        assert_eq!(order(*scheduler, backends), *expected, "{scheduler:?} {backends:?}");
        assert_eq!(ring_length(*scheduler, weights(backends)), expected.len() as u64);
    }
}

#[test]
fn slots_carry_the_configured_weight() {
    for scheduler in [RoundRobin, LeastConnection, Maglev] {
        for slot in built(scheduler, &[(1, 20), (2, 10), (3, 30)]) {
            assert_eq!(slot.weight, [20, 10, 30][slot.backend as usize - 1]);
        }
    }
}

#[test]
fn the_length_of_an_absurd_ring_is_computed_without_building_it() {
    let weights = (0..1_000_000).map(|i| u32::MAX - i % 2);
    assert_eq!(
        ring_length(RoundRobin, weights.clone()),
        500_000 * (2 * u64::from(u32::MAX) - 1)
    );
    assert_eq!(ring_length(LeastConnection, weights), 1_000_000);
}

#[test]
fn a_thousand_backends_with_weights_to_a_thousand_make_a_fair_ring() {
    let backends: Vec<(u32, u32)> = (0..1000).map(|i| (i, i * 7919 % 1000 + 1)).collect();
    let ring = built(RoundRobin, &backends);
    assert_eq!(ring.len(), 500_500);
    let mut counts = vec![0; 1000];
    ring.iter().for_each(|slot| counts[slot.backend as usize] += 1);
    assert!(backends.iter().all(|(i, weight)| counts[*i as usize] == *weight));
}

/// Few backends with large weights, and many with small ones: greedy orders fail on the mixtures.
fn services() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let weight = prop_oneof![0u32..4, 1u32..40, Just(200u32), (1u32..20).prop_map(|w| 10 * w)];
    vec(weight, 0..40).prop_map(|weights| (100..).zip(weights).collect())
}

proptest! {
    #[test]
    fn over_one_turn_every_backend_has_exactly_its_share(backends in services()) {
        let ring = built(RoundRobin, &backends);
        for (backend, weight) in &backends {
            prop_assert_eq!(count(&ring, *backend) * gcd_of(&backends), u64::from(*weight));
        }
    }

    #[test]
    fn every_prefix_is_less_than_one_slot_from_fair(backends in services()) {
        let ring = built(RoundRobin, &backends);
        let total: i64 = weights(&backends).map(i64::from).sum();
        for (backend, weight) in &backends {
            let mut have = 0;
            for (slots, slot) in (1i64..).zip(&ring) {
                have += i64::from(slot.backend == *backend);
                let deviation = have * total - slots * i64::from(*weight);
                prop_assert!(deviation.abs() < total, "backend {backend}: {have} of {slots}, in {backends:?}");
            }
        }
    }

    #[test]
    fn the_share_does_not_depend_on_the_order_of_backends(
        (backends, shuffled) in services().prop_flat_map(|b| (Just(b.clone()), Just(b).prop_shuffle()))
    ) {
        for scheduler in [RoundRobin, LeastConnection] {
            let (one, other) = (built(scheduler, &backends), built(scheduler, &shuffled));
            prop_assert_eq!(one.len(), other.len());
            for (backend, _) in &backends {
                prop_assert_eq!(count(&one, *backend), count(&other, *backend));
            }
        }
    }

    #[test]
    fn the_length_is_known_before_and_the_same_input_gives_the_same_ring(backends in services()) {
        for scheduler in [RoundRobin, LeastConnection] {
            let ring = built(scheduler, &backends);
            prop_assert_eq!(ring.len() as u64, ring_length(scheduler, weights(&backends)));
            prop_assert_eq!(&ring, &built(scheduler, &backends));
        }
    }

    #[test]
    fn a_least_connection_ring_has_each_weighted_backend_once_in_order(backends in services()) {
        let expected: Vec<u32> = backends.iter().filter(|(_, w)| *w > 0).map(|(b, _)| *b).collect();
        prop_assert_eq!(order(LeastConnection, &backends), expected);
    }
}
