//! Model check of the flow table: every interleaving of a few CPUs, with every reordering of loads
//! and stores that the C11 memory model allows.
//!
//! The model is weaker than what [`Cells`] promises: its swap acquires and releases, and is a full
//! barrier only together with [`Cells::fence`], because loom supports sequential consistency only
//! for fences. What holds here also holds on machines with weaker memory than those that run the
//! program.

use std::sync::Arc;

use loom::{
    model::Builder,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    thread::{self, JoinHandle},
};

use super::{
    tests::{Spilling, claim, enter, flow, live, to_backend},
    *,
};
use crate::{
    Phase, V4, V6,
    flow::{Direction::*, Tally},
    wire::tcp::{ACK, FIN, RST, SYN},
};

/// Backend of the entries that do not change.
const STAYS: u32 = 99;

/// A family, with where the parts of a key lie behind the meta word.
trait Modelled: Layout<Address: Send> {
    const KEY_WORDS: &[usize];
    const KEY_HALVES: &[usize];
}

impl Modelled for V4 {
    const KEY_WORDS: &[usize] = &[24];
    const KEY_HALVES: &[usize] = &[];
}

impl Modelled for V6 {
    const KEY_WORDS: &[usize] = &[8, 16];
    const KEY_HALVES: &[usize] = &[24];
}

/// A word of a bucket, at its offset.
///
/// To find the orders that matter, loom remembers the last access to each atomic; a CPU's own load
/// hides the load of another CPU from the store that follows. So each access takes a turn first, by
/// an access that is never a mere load. A relaxed one orders nothing else.
struct Word<A> {
    offset: usize,
    turn: AtomicU32,
    value: A,
}

impl<A> Word<A> {
    fn new(offset: usize, value: A) -> Self {
        let turn = AtomicU32::new(0);
        Self { offset, turn, value }
    }

    fn at(words: &[Self], offset: usize) -> Option<&A> {
        let word = words.iter().find(|word| word.offset == offset)?;
        Some(word.take_turn())
    }

    fn take_turn(&self) -> &A {
        self.turn.fetch_add(0, Ordering::Relaxed);
        &self.value
    }
}

/// A bucket whose first slots can change. The others hold entries that do not change.
struct Bucket {
    words: Vec<Word<AtomicU64>>,
    halves: Vec<Word<AtomicU32>>,
    established: u64,
    spilled: Word<AtomicU32>,
}

impl Spilling for &Bucket {
    fn spill(self) {
        self.spilled.take_turn().fetch_or(1, Ordering::Relaxed);
    }

    fn has_spilled(self) -> bool {
        self.spilled.take_turn().load(Ordering::Relaxed) != 0
    }
}

impl Bucket {
    fn new<F: Modelled>(slots: usize) -> Self {
        let behind = |slot, offset| F::meta(slot) + offset;
        let words = |slot| [0].iter().chain(F::KEY_WORDS).map(move |offset| behind(slot, offset));
        let halves = |slot| {
            let key = F::KEY_HALVES.iter().map(move |offset| behind(slot, offset));
            key.chain([F::binding(slot)])
        };
        let stays = Record {
            phase: Phase::Established,
            ..flow::<F>(STAYS).record
        };
        Self {
            words: (0..slots)
                .flat_map(words)
                .map(|offset| Word::new(offset, AtomicU64::new(0)))
                .collect(),
            halves: (0..slots)
                .flat_map(halves)
                .map(|offset| Word::new(offset, AtomicU32::new(0)))
                .collect(),
            established: Meta(0).entry(&stays).0,
            spilled: Word::new(0, AtomicU32::new(0)),
        }
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        Word::at(&self.words, offset)
    }

    fn half(&self, offset: usize) -> Option<&AtomicU32> {
        Word::at(&self.halves, offset)
    }
}

impl Cells for &Bucket {
    fn load_u64(self, offset: usize) -> u64 {
        self.word(offset)
            .map_or(self.established, |word| word.load(Ordering::Acquire))
    }

    fn store_u64(self, offset: usize, value: u64) {
        self.word(offset)
            .expect("a slot that can change")
            .store(value, Ordering::Release);
    }

    fn load_u32(self, offset: usize) -> u32 {
        self.half(offset).map_or(0, |half| half.load(Ordering::Acquire))
    }

    fn store_u32(self, offset: usize, value: u32) {
        self.half(offset)
            .expect("a slot that can change")
            .store(value, Ordering::Release);
    }

    fn swap_u64(self, offset: usize, old: u64, new: u64) -> bool {
        let word = self.word(offset).expect("a slot that can change");
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn swap_u32(self, offset: usize, old: u32, new: u32) -> bool {
        let half = self.half(offset).expect("a slot that can change");
        half.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn fence(self) {
        fence(Ordering::SeqCst);
    }

    fn opaque(number: u64) -> u64 {
        number
    }
}

/// Two buckets that several CPUs share.
#[derive(Clone)]
struct Shared(Arc<[Bucket; 2]>);

impl Shared {
    /// With this many slots each that can change, all free.
    fn new<F: Modelled>(slots: [usize; 2]) -> Self {
        Self(Arc::new(slots.map(Bucket::new::<F>)))
    }

    fn cells(&self) -> [&Bucket; 2] {
        [&self.0[0], &self.0[1]]
    }

    fn first(&self) -> &Bucket {
        &self.0[0]
    }

    fn place<F: Layout>(&self, flow: &NewEntry<F>) -> Hit<F> {
        enter(self.cells(), flow, 0).unwrap().1
    }

    /// Runs `work` on another CPU.
    fn cpu<T: 'static>(&self, work: impl FnOnce(&Self) -> T + 'static) -> JoinHandle<T> {
        let shared = self.clone();
        thread::spawn(move || work(&shared))
    }

    fn live<F: Layout>(&self) -> Vec<Hit<F>> {
        let hits = self.cells().into_iter().flat_map(live::<F, _>);
        hits.filter(|hit| hit.meta.backend() != STAYS).collect()
    }
}

/// Runs `scene` with every interleaving in which its CPUs are interrupted at most this often.
fn explore(interruptions: usize, scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(scene);
}

/// Two CPUs claim one 5-tuple. One of them commits, or none does.
fn two_claimers<F: Modelled>(interruptions: usize, slots: [usize; 2]) {
    explore(interruptions, move || {
        let shared = Shared::new::<F>(slots);
        let claimer = |backend| {
            move |shared: &Shared| {
                let flow = to_backend(flow::<F>(10), backend);
                enter(shared.cells(), &flow, 0)
            }
        };
        let other = shared.cpu(claimer(11));
        let mine = claimer(10)(&shared);
        let results = [mine, other.join().unwrap()];
        let entered: Vec<_> = results.iter().flatten().map(|(_, hit)| *hit).collect();
        assert!(entered.len() <= 1, "both entered: {results:?}");
        assert_eq!(shared.live::<F>(), entered, "{results:?}");
        for refused in results.iter().filter_map(|result| result.as_ref().err()) {
            let seen = if entered.is_empty() {
                &[Refused::Raced][..]
            } else {
                &[Refused::Raced, Refused::Exists]
            };
            assert!(seen.contains(refused), "{results:?}");
        }
    });
}

/// Fails if an entry is committed before the search for conflicts, if the search ignores pending
/// entries, if [`Cells::fence`] is missing between reservation and search, or if a free slot is
/// taken without a swap.
#[test]
fn of_two_claimers_of_a_flow_at_most_one_enters_it() {
    two_claimers::<V4>(3, [2, 0]);
    two_claimers::<V6>(2, [2, 0]);
}

/// Fails as [`of_two_claimers_of_a_flow_at_most_one_enters_it`], if a claimer searches only its own
/// bucket, or if it marks the spill only after it reserved an entry in the second bucket.
#[test]
fn of_two_claimers_in_different_buckets_at_most_one_enters_it() {
    two_claimers::<V4>(3, [1, 1]);
    two_claimers::<V6>(2, [1, 1]);
}

/// A CPU evicts a flow and enters another one in its slot, then the first one again with another
/// binding. Meanwhile a packet searches for either. `backends` are those of the three.
fn reader<F: Modelled>(interruptions: usize, backends: [u32; 3], sought: u32) {
    explore(interruptions, move || {
        let [first, other, mut again] = [flow::<F>(10), flow::<F>(20), flow::<F>(10)];
        again.binding = flow::<F>(11).binding;
        let [mut first, other, again] =
            [(first, 0), (other, 1), (again, 2)].map(|(flow, turn)| to_backend(flow, backends[turn]));
        first.record.phase = Phase::Reset;
        let shared = Shared::new::<F>([1, 0]);
        shared.place(&first);
        let writer = shared.cpu(move |shared| {
            let mut evicted = Hit::BLANK;
            let (_, hit) = claim(shared.cells(), &other, 0, &mut evicted).unwrap();
            assert_eq!(evicted.address, first.address);
            release(shared.first(), &hit).unwrap();
            enter(shared.cells(), &again, 0).unwrap();
        });
        let flow_of = flow::<F>(sought);
        if let Some(hit) = search::<F, _>(shared.first(), &flow_of.address, flow_of.ports, false, |_| true) {
            let flow = [first, other, again]
                .into_iter()
                .find(|flow| flow.binding == hit.binding);
            let flow = flow.expect("a flow that was entered");
            assert_eq!(hit.address, flow.address, "{hit:?}");
            assert_eq!(hit.ports, flow.ports, "{hit:?}");
            assert_eq!(hit.meta.backend(), flow.record.backend, "{hit:?}");
        }
        writer.join().unwrap();
    });
}

/// Fails if [`read`] does not read or compare the meta word again, if it reads the key first, if a
/// key is written before the slot is claimed, or if a slot is taken without a new version.
#[test]
fn a_reader_never_takes_the_backend_or_bind_of_another_flow() {
    for sought in [10, 20] {
        for backends in [[10, 20, 11], [10; 3]] {
            reader::<V4>(3, backends, sought);
            reader::<V6>(2, backends, sought);
        }
    }
}

/// Fails if a release stores instead of swapping, or does not repeat a lost race.
#[test]
fn of_two_releases_exactly_one_takes_place() {
    explore(3, || {
        let shared = Shared::new::<V4>([1, 0]);
        let hit = shared.place(&flow::<V4>(10));
        let toucher = shared.cpu(move |shared| touch(shared.first(), &hit, 1001, |_| Phase::Established));
        let other = shared.cpu(move |shared| release(shared.first(), &hit));
        let mine = release(shared.first(), &hit);
        let releases = [mine, other.join().unwrap()];
        let touched = toucher.join().unwrap();
        let last: Vec<_> = releases.into_iter().flatten().map(Meta::phase).collect();
        // It ends in the phase that the last packet left.
        assert_eq!(last, [touched.map_or(Phase::Opening, |touched| touched.after)]);
        assert_eq!(shared.live::<V4>(), []);
    });
}

/// Fails if [`touch`] stores instead of swapping, if it does not compare the entry again, or if an
/// entry is evicted without a swap.
#[test]
fn a_packet_never_revives_what_was_released_or_evicted() {
    explore(3, || {
        let shared = Shared::new::<V4>([1, 0]);
        let hit = shared.place(&flow::<V4>(10));
        let toucher = shared.cpu(move |shared| touch(shared.first(), &hit, 1001, |_| Phase::Answered));
        let releaser = shared.cpu(move |shared| release(shared.first(), &hit));
        let mut evicted = Hit::BLANK;
        let claimed = claim(shared.cells(), &flow::<V4>(20), 0, &mut evicted);
        let released = releaser.join().unwrap();
        let touched = toucher.join().unwrap();
        let evicted = Some(evicted.meta).filter(|meta| !meta.is_free());
        let ends: Vec<_> = released.into_iter().chain(evicted).map(Meta::phase).collect();
        assert_eq!(ends, [touched.map_or(Phase::Opening, |touched| touched.after)]);
        // The entry there now is the one that was claimed, unchanged.
        let entered: Vec<_> = claimed.into_iter().map(|(_, hit)| hit).collect();
        assert_eq!(shared.live::<V4>(), entered);
    });
}

/// What packets make of the numbers of embryonic and of active flows.
fn moved(numbers: [i32; 2], before: Tally, after: Tally) -> [i32; 2] {
    let is = |tally, which| i32::from(tally == which);
    [Tally::Embryonic, Tally::Active]
        .map(|which| is(after, which) - is(before, which))
        .iter()
        .zip(numbers)
        .map(|(change, number)| number + change)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// A packet of the client and one of the worker meet, and perhaps an end. Whatever the order: what
/// the CPUs counted adds up to the entries of the table.
fn meeting(begin: Phase, to_worker: u8, to_client: u8, is_released: bool) {
    explore(3, move || {
        let shared = Shared::new::<V4>([1, 0]);
        let record = Record {
            phase: begin,
            ..flow::<V4>(10).record
        };
        let hit = shared.place(&NewEntry {
            record,
            ..flow::<V4>(10)
        });
        let packet = |direction, flags| {
            move |shared: &Shared| touch(shared.first(), &hit, 1001, |phase| phase.after(direction, flags))
        };
        let others = [
            Some(shared.cpu(packet(ToClient, to_client))),
            is_released.then(|| {
                shared.cpu(move |shared| {
                    let last = release(shared.first(), &hit)?;
                    Some(Touched {
                        before: last.phase(),
                        after: Phase::Reset,
                    })
                })
            }),
        ];
        let mine = packet(ToWorker, to_worker)(&shared);
        let others = others.into_iter().flatten().map(|other| other.join().unwrap());
        let mut numbers = moved([0; 2], Tally::None, begin.tally());
        for touched in others.collect::<Vec<_>>().into_iter().chain([mine]).flatten() {
            numbers = moved(numbers, touched.before.tally(), touched.after.tally());
        }
        let recount = shared.live::<V4>().iter().fold([0; 2], |numbers, hit| {
            moved(numbers, Tally::None, hit.meta.phase().tally())
        });
        assert_eq!(numbers, recount);
        assert_eq!(shared.live::<V4>().is_empty(), is_released);
    });
}

/// Fails if [`touch`] stores instead of swapping, or uses an outdated phase.
#[test]
fn what_packets_of_both_directions_count_adds_up() {
    for (begin, to_worker, to_client) in [
        (Phase::Opening, ACK, SYN | ACK),
        (Phase::Answered, ACK, SYN | ACK),
        (Phase::Answered, ACK, FIN | ACK),
        (Phase::Established, FIN | ACK, FIN | ACK),
        (Phase::ClientClosing, ACK, FIN | ACK),
        (Phase::Established, FIN | ACK, RST),
        (Phase::Established, RST, RST),
    ] {
        for is_released in [false, true] {
            meeting(begin, to_worker, to_client, is_released);
        }
    }
}
