//! Tests of the flow table, with one CPU and with many.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering, fence},
};

use proptest::prelude::*;

use super::*;
use crate::{
    Be16, Family, FlowKey, Phase, Ports, V4, V6,
    flow::{Direction, Tally},
    wire::{tcp, udp},
};

/// A bucket of either family in the memory of this process.
#[derive(Default)]
struct Bucket([AtomicU64; 24], AtomicBool);

/// A bucket with its mark.
pub(super) trait Spilling: Cells {
    fn spill(self);
    fn has_spilled(self) -> bool;
}

impl Spilling for &Bucket {
    fn spill(self) {
        self.1.store(true, Ordering::Relaxed);
    }

    fn has_spilled(self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

impl Bucket {
    fn half(&self, offset: usize) -> &AtomicU32 {
        let word = &raw const self.0[offset / 8];
        // SAFETY: half of a word that lives as long as `self`, aligned to its size, and only ever
        // used atomically.
        unsafe { &*word.cast::<AtomicU32>().add(offset / 4 % 2) }
    }
}

impl Cells for &Bucket {
    fn load_u64(self, offset: usize) -> u64 {
        self.0[offset / 8].load(Ordering::Acquire)
    }

    fn store_u64(self, offset: usize, value: u64) {
        self.0[offset / 8].store(value, Ordering::Release);
    }

    fn load_u32(self, offset: usize) -> u32 {
        self.half(offset).load(Ordering::Acquire)
    }

    fn store_u32(self, offset: usize, value: u32) {
        self.half(offset).store(value, Ordering::Release);
    }

    fn swap_u64(self, offset: usize, old: u64, new: u64) -> bool {
        self.0[offset / 8]
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn swap_u32(self, offset: usize, old: u32, new: u32) -> bool {
        self.half(offset)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn fence(self) {
        fence(Ordering::SeqCst);
    }

    fn opaque(number: u64) -> u64 {
        number
    }
}

/// Idle time in ticks after which any entry can be evicted, in these tests.
const EXPIRY: u32 = 100;

/// A flow that differs from those of other numbers in address, ports, backend and binding.
pub(super) fn flow<F: Family>(number: u32) -> NewEntry<F> {
    NewEntry {
        record: Record {
            phase: Phase::Opening,
            udp: false,
            direction: Direction::ToWorker,
            backend: number,
            generation: number,
            now: 1000,
        },
        address: F::narrow(&[number, !number, number, !number]),
        ports: Ports::new(Be16::from_host(number as u16), Be16::from_host(80)),
        binding: Binding::new(Be16::from_host(!number as u16), number, number & 3),
    }
}

/// The same flow in another phase, last seen at another time.
fn aged<F: Family>(number: u32, phase: Phase, now: u32) -> NewEntry<F> {
    let flow = flow(number);
    NewEntry {
        record: Record {
            phase,
            now,
            ..flow.record
        },
        ..flow
    }
}

/// The same client's flow, to another backend. Those of the same ten serve the same virtual
/// address.
pub(super) fn to_backend<F: Family>(flow: NewEntry<F>, backend: u32) -> NewEntry<F> {
    NewEntry {
        record: Record { backend, ..flow.record },
        ..flow
    }
}

/// Whether an entry is of that client's flow.
pub(super) fn is_flow<F: Layout>(flow: &NewEntry<F>, hit: &Hit<F>) -> bool {
    hit.address == flow.address
        && hit.ports == flow.ports
        && hit.meta.is_kind(flow.record.udp, flow.record.direction)
        && hit.meta.backend() / 10 == flow.record.backend / 10
}

/// What a claimer does after it reserved an entry: searches for conflicts, then commits or
/// withdraws.
pub(super) fn commit_or_withdraw<F: Layout, C: Spilling>(
    buckets: [C; 2],
    flow: &NewEntry<F>,
    reserved: &Reserved,
) -> Result<Hit<F>, Refused> {
    let &Reserved { second, slot, meta } = reserved;
    let looks = [
        (0, if second { SLOTS } else { slot }),
        (1, if second { slot } else { SLOTS }),
    ];
    let buckets_to_look_at = if buckets[0].has_spilled() { 2 } else { 1 };
    for (bucket, mine) in looks.into_iter().take(buckets_to_look_at) {
        let cells = buckets[bucket];
        let difference = |slot| F::difference(cells, slot, &flow.address, flow.ports);
        if let Some(refused) = conflict::<F, C>(cells, mine, difference, |hit| is_flow(flow, hit)) {
            withdraw::<F, C>(buckets[usize::from(second)], slot, meta);
            return Err(refused);
        }
    }
    commit::<F, C>(buckets[usize::from(second)], slot, meta);
    Ok(Hit {
        slot,
        meta,
        binding: flow.binding,
        address: flow.address,
        ports: flow.ports,
    })
}

/// All steps of a claim. The evicted entry is written to `evicted`.
pub(super) fn claim<F: Layout, C: Spilling>(
    buckets: [C; 2],
    flow: &NewEntry<F>,
    expiry: u32,
    evicted: &mut Hit<F>,
) -> Result<(bool, Hit<F>), Refused> {
    let reserved = reserve(buckets, flow, expiry, evicted, || buckets[0].spill())?;
    Ok((reserved.second, commit_or_withdraw(buckets, flow, &reserved)?))
}

/// As [`claim`], without the evicted entry.
pub(super) fn enter<F: Layout, C: Spilling>(
    buckets: [C; 2],
    flow: &NewEntry<F>,
    expiry: u32,
) -> Result<(bool, Hit<F>), Refused> {
    let mut evicted = Hit::BLANK;
    claim(buckets, flow, expiry, &mut evicted)
}

fn reserve_in<F: Layout, C: Spilling>(buckets: [C; 2], flow: &NewEntry<F>, expiry: u32) -> Result<Reserved, Refused> {
    let mut evicted = Hit::BLANK;
    reserve(buckets, flow, expiry, &mut evicted, || buckets[0].spill())
}

/// Enters a flow in this bucket, without a search for conflicts.
fn fill<F: Layout>(bucket: &Bucket, flow: &NewEntry<F>) -> Hit<F> {
    let Reserved { slot, meta, .. } = reserve_in([bucket; 2], flow, 0).unwrap();
    commit::<F, _>(bucket, slot, meta);
    read(bucket, slot).unwrap()
}

/// Finds a client's flow in either bucket.
pub(super) fn look<F: Layout, C: Spilling>(buckets: [C; 2], flow: &NewEntry<F>) -> Option<(bool, Hit<F>)> {
    let places = if buckets[0].has_spilled() { 2 } else { 1 };
    [false, true].into_iter().take(places).find_map(|second| {
        let cells = buckets[usize::from(second)];
        let hit = search(cells, &flow.address, flow.ports, flow.record.udp, |hit| {
            is_flow(flow, hit)
        })?;
        Some((second, hit))
    })
}

/// The live entries of a bucket.
pub(super) fn live<F: Layout, C: Cells>(cells: C) -> Vec<Hit<F>> {
    (0..SLOTS).filter_map(|slot| read(cells, slot)).collect()
}

/// Two buckets: the first holds `flows` in the order of its slots, the second `others`.
fn filled<F: Layout>(flows: &[NewEntry<F>], others: &[NewEntry<F>]) -> [Bucket; 2] {
    let buckets = <[Bucket; 2]>::default();
    if !others.is_empty() {
        (&buckets[0]).spill();
    }
    for (bucket, flows) in buckets.iter().zip([flows, others]) {
        for flow in flows {
            fill(bucket, flow);
        }
    }
    buckets
}

fn full<F: Layout>(first: u32, phase: Phase, now: u32) -> Vec<NewEntry<F>> {
    (first..).take(SLOTS).map(|number| aged(number, phase, now)).collect()
}

macro_rules! of_both_families {
    ($($(#[$attribute:meta])* fn $name:ident<$family:ident>() $body:block)+) => {
        $(
            $(#[$attribute])*
            #[test]
            fn $name() {
                fn check<$family: Simulated>() $body
                check::<V4>();
                check::<V6>();
            }
        )+
    };
}

/// What these tests need of a family.
trait Simulated: Layout<Address: Hash> {}
impl Simulated for V4 {}
impl Simulated for V6 {}

fn key<F: Family>(flow: &NewEntry<F>) -> FlowKey<F> {
    FlowKey {
        source: flow.address,
        destination: F::narrow(&[0x0100_007f, 0, 0, flow.record.backend / 10]),
        ports: flow.ports,
        protocol: if flow.record.udp { udp::PROTOCOL } else { tcp::PROTOCOL },
        reserved: [0; 3],
    }
}

proptest! {
    #[test]
    fn the_places_of_a_flow_are_two_different_buckets(
        seed: u64, source: u32, destination: u32, ports: u32, buckets in prop_oneof![2_u32..20, 2_u32..=u32::MAX],
    ) {
        let key = FlowKey::<V4> {
            source: [source],
            destination: [destination],
            ports: Ports(ports),
            protocol: tcp::PROTOCOL,
            reserved: [0; 3],
        };
        let places = places(&key, seed, buckets);
        prop_assert!(places.first != places.second);
        prop_assert!(places.first < buckets && places.second < buckets);
    }

    #[test]
    fn a_meta_word_keeps_its_parts(
        old: u64, phase in prop::sample::select(&Phase::ALL[..]), udp: bool, answers: bool,
        backend in 0..Meta::MAX_BACKENDS, generation: u32, now in 0..=Meta::TICKS,
    ) {
        let direction = if answers { Direction::ToClient } else { Direction::ToWorker };
        let record = Record { phase, udp, direction, backend, generation, now };
        let claimed = Meta(old).claimed();
        let (pending, entry) = (claimed.pending(&record), claimed.entry(&record));
        prop_assert_eq!(claimed.stage(), Stage::Claimed);
        prop_assert_eq!(pending.stage(), Stage::Pending);
        prop_assert_eq!(entry.stage(), Stage::Live(phase));
        prop_assert_eq!(entry.freed().stage(), Stage::Free);
        for meta in [pending, entry] {
            prop_assert!(meta.is_visible());
            prop_assert!(meta.is_same(entry));
            prop_assert!(meta.is_kind(udp, direction) && !meta.is_kind(!udp, direction));
            prop_assert_eq!((meta.is_udp(), meta.direction()), (udp, direction));
            prop_assert_eq!((meta.backend(), meta.last_seen()), (backend, now));
            prop_assert!(meta.is_generation(generation) && !meta.is_generation(generation.wrapping_add(1)));
        }
        // A slot that was freed and taken again holds another entry, even for the same flow.
        prop_assert!(!entry.freed().claimed().entry(&record).is_same(entry));
    }

    #[test]
    fn a_touch_changes_only_time_and_phase(
        word: u64, phase in prop::sample::select(&Phase::ALL[..]), now in 0..=Meta::TICKS,
    ) {
        let touched = Meta(word).touched(phase, now);
        prop_assert!(touched.is_same(Meta(word)));
        prop_assert_eq!((touched.phase(), touched.last_seen()), (phase, now));
        prop_assert_eq!(touched.generation(), Meta(word).generation());
        prop_assert_eq!(touched.backend(), Meta(word).backend());
    }
}

#[test]
fn idle_time_is_counted_across_the_wrap_of_ticks() {
    let at = |tick| Meta(0).touched(Phase::Established, tick);
    let given_then = [
        (10, 10, 0),
        (10, 15, 5),
        (Meta::TICKS, 4, 5),
        // A packet arrived after `now` was read.
        (10, 9, 0),
        (1, Meta::TICKS, 0),
    ];
    for (seen, now, idle) in given_then {
        assert_eq!(at(seen).idle(now), idle, "seen at {seen}, now {now}");
    }
}

of_both_families! {
    fn an_entry_is_found_from_its_commit_to_its_release<F>() {
        let buckets = &<[Bucket; 2]>::default();
        let buckets = [&buckets[0], &buckets[1]];
        let flow = flow::<F>(10);
        assert_eq!(look(buckets, &flow), None);
        let mut evicted = Hit::BLANK;
        let reserved = reserve(buckets, &flow, EXPIRY, &mut evicted, || unreachable!()).unwrap();
        assert_eq!(look(buckets, &flow), None, "reserved");
        assert_eq!(evicted.meta.stage(), Stage::Free);
        let hit = commit_or_withdraw(buckets, &flow, &reserved).unwrap();
        assert_eq!(look(buckets, &flow), Some((false, hit)), "published");
        let find = |udp| find(buckets[0], &flow.address, flow.ports, udp, |_| true);
        assert_eq!((find(false), find(true)), (Some(hit), None));
        assert!(release(buckets[0], &hit).is_some());
        assert_eq!((look(buckets, &flow), find(false)), (None, None), "released");
    }

    fn a_reply_is_found_by_its_port<F>() {
        let bucket = &Bucket::default();
        let mut answers = flow::<F>(10);
        answers.record.direction = Direction::ToClient;
        let hit = fill(bucket, &answers);
        let port = answers.binding.port();
        let other = Be16::from_host(port.host() ^ 1);
        for (port, udp, is, found) in [
            (port, false, true, Some(hit)),
            (port, false, false, None),
            (port, true, true, None),
            (other, false, true, None),
        ] {
            assert_eq!(find_reply(bucket, port, udp, |_| is), found, "{port:?} {udp} {is}");
            assert_eq!(search_reply(bucket, port, udp, |_| is), found, "{port:?} {udp} {is}");
        }
        // A client's packet does not find it.
        assert_eq!(find::<F, _>(bucket, &answers.address, answers.ports, false, |_| true), None);
    }

    fn a_withdrawn_entry_leaves_the_slot_free_with_its_version<F>() {
        let bucket = &Bucket::default();
        let flow = flow::<F>(10);
        let reserved = reserve_in([bucket; 2], &flow, 0).unwrap();
        withdraw::<F, _>(bucket, reserved.slot, reserved.meta);
        let left = Meta(bucket.load_u64(F::meta(reserved.slot)));
        assert_eq!(left, reserved.meta.freed());
        assert!(left.is_free());
        let again = reserve_in([bucket; 2], &flow, 0).unwrap();
        assert_eq!(again.slot, reserved.slot);
        assert!(!again.meta.is_same(reserved.meta));
    }

    fn a_claim_conflicts_only_with_the_same_flow<F>() {
        let mine = flow::<F>(10);
        let mut answers = mine;
        answers.record.direction = Direction::ToClient;
        let mut datagrams = mine;
        datagrams.record.udp = true;
        let mut other_backend = mine;
        other_backend.record.backend = 11;
        let mut other_address = mine;
        other_address.record.backend = 20;
        for (other, live, pending) in [
            (mine, Some(Refused::Exists), Some(Refused::Raced)),
            (other_backend, Some(Refused::Exists), Some(Refused::Raced)),
            (other_address, None, None),
            (answers, None, None),
            (datagrams, None, None),
            (flow(11), None, None),
        ] {
            for (publishes, expected) in [(true, live), (false, pending)] {
                for bucket in [0, 1] {
                    let buckets = &<[Bucket; 2]>::default();
                    let cells = [&buckets[bucket]; 2];
                    if bucket == 1 {
                        (&buckets[0]).spill();
                    }
                    let theirs = reserve_in(cells, &other, 0).unwrap();
                    if publishes {
                        commit::<F, _>(cells[0], theirs.slot, theirs.meta);
                    }
                    let result = enter([&buckets[0], &buckets[1]], &mine, 0);
                    assert_eq!(result.err(), expected, "{other:?} in bucket {bucket}, published: {publishes}");
                    let entered = usize::from(publishes) + usize::from(expected.is_none());
                    let found = live_of_both::<F>(buckets);
                    assert_eq!(found.len(), entered, "{other:?} in bucket {bucket}");
                }
            }
        }
    }

    fn the_emptier_bucket_is_taken_when_the_first_one_is_crowded<F>() {
        for (first, other, second) in [(0, 0, false), (3, 0, false), (4, 3, true), (4, 4, false), (6, 5, true)] {
            let flows = full::<F>(10, Phase::Established, 1000);
            let others = full::<F>(20, Phase::Established, 1000);
            let buckets = filled(&flows[..first], &others[..other]);
            let entered = enter([&buckets[0], &buckets[1]], &flow::<F>(30), EXPIRY);
            assert_eq!(entered.unwrap().0, second, "{first} in the first, {other} in the second");
        }
    }

    fn entries_are_evicted_in_order<F>() {
        use Phase::{Answered, ClientClosing, ClosedByWorker, Established, Opening, Reset};
        const NOW: u32 = 1000;
        let expired = NOW - EXPIRY - 1;
        // The order of eviction; all other entries of both buckets are established and recently
        // used.
        let readiness = [
            aged::<F>(41, ClosedByWorker, NOW - 50),
            aged(42, Reset, NOW - 1),
            aged(43, Opening, NOW - 90),
            aged(44, Answered, NOW - 89),
            aged(45, Opening, NOW),
            aged(46, ClientClosing, expired - 1),
            aged(47, Established, expired),
        ];
        for count in 0..=readiness.len() {
            let ready = &readiness[readiness.len() - count..];
            for reversed in [false, true] {
                let mut all: Vec<_> = full(10, Established, NOW);
                all.extend(full(20, Established, NOW - EXPIRY));
                all.splice(2..2 + count, ready.iter().copied());
                if reversed {
                    all.reverse();
                }
                let buckets = filled(&all[..SLOTS], &all[SLOTS..]);
                let mut evicted = Hit::BLANK;
                let new = aged::<F>(30, Opening, NOW);
                let result = claim([&buckets[0], &buckets[1]], &new, EXPIRY, &mut evicted);
                let Some(victim) = ready.first() else {
                    assert_eq!(result, Err(Refused::Full));
                    assert!(evicted.meta.is_free());
                    continue;
                };
                let (_, hit) = result.unwrap();
                assert_eq!(evicted.address, victim.address, "{count} are ready");
                assert_eq!((evicted.slot, evicted.binding, evicted.ports), (hit.slot, victim.binding, victim.ports));
                assert_eq!(evicted.meta.phase(), victim.record.phase);
                assert_eq!(look([&buckets[0], &buckets[1]], victim), None);
                assert_eq!(live_of_both::<F>(&buckets).len(), 2 * SLOTS);
            }
        }
    }

    fn established_entries_stay_unless_they_expire<F>() {
        let buckets = filled(&full::<F>(10, Phase::Established, 0), &full(20, Phase::WorkerClosing, 0));
        let result = enter([&buckets[0], &buckets[1]], &flow::<F>(30), 0);
        assert_eq!(result, Err(Refused::Full));
    }

    fn a_reserved_entry_is_not_evicted<F>() {
        let bucket = &Bucket::default();
        for number in 10..16 {
            reserve_in([bucket; 2], &flow::<F>(number), EXPIRY).unwrap();
        }
        let late = aged::<F>(30, Phase::Opening, 1_000_000);
        assert_eq!(reserve_in([bucket; 2], &late, EXPIRY), Err(Refused::Full));
    }

    fn a_packet_changes_time_and_phase_of_its_own_entry_only<F>() {
        let bucket = &Bucket::default();
        let hit = fill(bucket, &flow::<F>(10));
        let touched = touch(bucket, &hit, 1010, |phase| phase.after(Direction::ToClient, tcp::SYN | tcp::ACK));
        assert_eq!(touched, Some(Touched { before: Phase::Opening, after: Phase::Answered }));
        let now = read::<F, _>(bucket, hit.slot).unwrap();
        assert_eq!(now, Hit { meta: hit.meta.touched(Phase::Answered, 1010), ..hit });
        // With an outdated meta word: the phase is the latest one.
        let touched = touch(bucket, &hit, 1020, |phase| phase.after(Direction::ToWorker, tcp::ACK));
        assert_eq!(touched, Some(Touched { before: Phase::Answered, after: Phase::Established }));
        assert!(release(bucket, &now).is_some());
        assert_eq!(touch(bucket, &hit, 1030, |_| Phase::Reset), None, "gone");
        // The same flow again, in the same slot.
        let again = fill(bucket, &flow::<F>(10));
        assert_eq!(again.slot, hit.slot);
        for old in [hit, now] {
            assert_eq!(touch(bucket, &old, 1030, |_| Phase::Reset), None, "another entry");
            assert_eq!(release(bucket, &old), None, "another entry");
        }
        assert_eq!(read(bucket, hit.slot), Some(again));
    }

    fn an_entry_is_released_once<F>() {
        let bucket = &Bucket::default();
        let hit = fill(bucket, &flow::<F>(10));
        touch(bucket, &hit, 1010, |_| Phase::Established);
        let last = hit.meta.touched(Phase::Established, 1010);
        assert_eq!([release(bucket, &hit), release(bucket, &hit)], [Some(last), None]);
        assert_eq!(Meta(bucket.load_u64(F::meta(hit.slot))), hit.meta.freed());
    }

    fn a_key_in_a_free_slot_is_not_found<F>() {
        let bucket = &Bucket::default();
        let mine = flow::<F>(10);
        fill(bucket, &flow::<F>(20));
        let hit = fill(bucket, &mine);
        F::store_key(bucket, 0, &mine.address, mine.ports);
        bucket.store_u64(F::meta(0), 0);
        assert_eq!(look([bucket; 2], &mine), Some((false, hit)));
    }

    /// However many slots match a look-up: an entry is either refused, or found.
    fn an_entry_is_found_among_similar_ones<F>() {
        for second in [false, true] {
            let buckets = &<[Bucket; 2]>::default();
            let cells = if second { [&buckets[1], &buckets[0]] } else { [&buckets[0], &buckets[1]] };
            let mut entered = Vec::new();
            for number in 1..=2 * SLOTS as u32 {
                // One client, another virtual address for each flow.
                let flow = to_backend(flow::<F>(10), 10 * number);
                entered.extend(enter(cells, &flow, 0).ok().map(|(second, hit)| (flow, second, hit)));
                for (flow, second, hit) in &entered {
                    assert_eq!(look(cells, flow), Some((*second, *hit)), "{number} were claimed");
                }
            }
            assert!(entered.len() > 2, "{entered:?}");
        }
    }

    fn replies_are_found_among_others_to_the_same_port<F>() {
        let bucket = &Bucket::default();
        let mut entered = Vec::new();
        for number in 10..10 + SLOTS as u32 {
            let mut answers = flow::<F>(number);
            answers.record.direction = Direction::ToClient;
            answers.binding = flow::<F>(10).binding;
            let port = answers.binding.port();
            let Reserved { slot, meta, .. } = reserve_in([bucket; 2], &answers, 0).unwrap();
            let difference = |slot| port_difference::<F, _>(bucket, slot, port);
            match conflict::<F, _>(bucket, slot, difference, |_| false) {
                None => {
                    commit::<F, _>(bucket, slot, meta);
                    entered.push(number);
                }
                Some(_) => withdraw::<F, _>(bucket, slot, meta),
            }
            for number in &entered {
                let found = search_reply::<F, _>(bucket, port, false, |hit| hit.meta.backend() == *number);
                assert!(found.is_some(), "{number} of {entered:?}");
            }
        }
        assert!(entered.len() > 2, "{entered:?}");
    }

    fn flows_that_differ_only_in_the_virtual_address_are_distinguished_by_their_backends<F>() {
        let bucket = &Bucket::default();
        let mine = flow::<F>(10);
        let mut other = mine;
        other.record.backend = 25;
        let hits = [mine, other].map(|flow| fill(bucket, &flow));
        assert_ne!(hits[0].slot, hits[1].slot);
        for (flow, hit) in [mine, other].iter().zip(hits) {
            assert_eq!(look([bucket; 2], flow), Some((false, hit)));
        }
    }
}

fn live_of_both<F: Layout>(buckets: &[Bucket; 2]) -> Vec<Hit<F>> {
    buckets.iter().flat_map(|bucket| live(bucket)).collect()
}

/// A table of either family.
struct Table {
    buckets: Vec<Bucket>,
}

impl Table {
    fn new(buckets: u32) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
        }
    }

    fn of<F: Family>(&self, flow: &NewEntry<F>) -> [&Bucket; 2] {
        let places = places(&key(flow), 0x5eed, self.buckets.len() as u32);
        [places.first, places.second].map(|place| &self.buckets[place as usize])
    }

    fn live<F: Layout>(&self) -> Vec<Hit<F>> {
        self.buckets.iter().flat_map(live).collect()
    }
}

/// A pseudo-random number from a number, by splitmix64.
fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

of_both_families! {
    /// Of 2,000,000 flows 6 are refused for IPv4 and 4 for IPv6: one in 400,000.
    fn a_table_filled_to_its_capacity_refuses_fewer_than_one_in_ten_thousand<F>() {
        const FLOWS: u32 = 200_000;
        const TABLES: u64 = 10;
        let mut refused = 0;
        for seed in 0..TABLES {
            let table = Table::new(buckets_for(FLOWS));
            for number in 0..FLOWS {
                let random = scramble(seed << 32 | u64::from(number));
                let client = NewEntry::<F> {
                    address: F::narrow(&[random as u32, number, 0, 0]),
                    ports: Ports((random >> 32) as u32),
                    ..aged(10, Phase::Established, 1000)
                };
                match enter(table.of(&client), &client, 0) {
                    Ok(_) => {}
                    Err(Refused::Full) => refused += 1,
                    Err(other) => panic!("{other:?} for {client:?}"),
                }
            }
        }
        let flows = u64::from(FLOWS) * TABLES;
        assert!(refused * 10_000 < flows, "IPv{}: {refused} of {flows} were refused", F::NUMBER);
        println!("IPv{}: {refused} of {flows} were refused", F::NUMBER);
    }

    fn threads_that_claim_touch_and_release_leave_no_double_and_exact_counts<F>() {
        const THREADS: u64 = 4;
        const STEPS: u64 = 60_000;
        let table = &Table::new(16);
        let numbers = &[const { AtomicI64::new(0) }; 2];
        let moved = |before: Tally, after: Tally| {
            for (number, which) in numbers.iter().zip([Tally::Embryonic, Tally::Active]) {
                number.fetch_add(i64::from(after == which) - i64::from(before == which), Ordering::Relaxed);
            }
        };
        let step = |thread: u64, step: u64| {
            let random = scramble(thread << 32 | step);
            // Few clients, so that threads meet; more than fit, so that some are evicted. Each
            // thread claims with its own backend.
            let client = flow::<F>(10 * (1 + (random >> 8) as u32 % 150));
            let now = 1000 + (step / 500) as u32;
            let Some((second, hit)) = look(table.of(&client), &client) else {
                let record = Record { backend: client.record.backend + thread as u32, now, ..client.record };
                let mut evicted = Hit::BLANK;
                let claimed = claim(table.of(&client), &NewEntry { record, ..client }, EXPIRY, &mut evicted);
                if !evicted.meta.is_free() {
                    moved(evicted.meta.phase().tally(), Tally::None);
                }
                if claimed.is_ok() {
                    moved(Tally::None, record.phase.tally());
                }
                return;
            };
            assert_eq!(hit.binding, client.binding, "{hit:?}");
            let cells = table.of(&client)[usize::from(second)];
            if random & 0xf == 0 {
                if let Some(last) = release(cells, &hit) {
                    moved(last.phase().tally(), Tally::None);
                }
                return;
            }
            let direction = if random & 0x10 == 0 { Direction::ToWorker } else { Direction::ToClient };
            let flags = [tcp::SYN | tcp::ACK, tcp::ACK, tcp::ACK, tcp::FIN | tcp::ACK][(random >> 5) as usize & 3];
            if let Some(touched) = touch(cells, &hit, now, |phase| phase.after(direction, flags)) {
                moved(touched.before.tally(), touched.after.tally());
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || (0..STEPS).for_each(|turn| step(thread, turn)));
            }
        });
        let left = table.live::<F>();
        let clients: HashSet<_> = left.iter().map(|hit| hit.address).collect();
        assert_eq!(clients.len(), left.len(), "a flow has two entries");
        let counted = numbers.each_ref().map(|number| number.load(Ordering::Relaxed));
        let recount = [Tally::Embryonic, Tally::Active]
            .map(|which| left.iter().filter(|hit| hit.meta.phase().tally() == which).count() as i64);
        assert_eq!(counted, recount, "embryonic and active flows");
        for bucket in &table.buckets {
            for slot in 0..SLOTS {
                let stage = Meta(bucket.load_u64(F::meta(slot))).stage();
                assert!(matches!(stage, Stage::Free | Stage::Live(_)), "{stage:?} was left behind");
            }
        }
    }
}
