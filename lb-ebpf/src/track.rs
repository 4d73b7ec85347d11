//! Track: the flow table in the packet path, by four verbs: find, claim, touch, release.
//!
//! A flow of a mode that translates has two entries: one that its client's packets find, and one that its worker's
//! answers find. The first is the flow: its phase is the connection's, and it is what is counted. The second follows.

pub mod again;
pub mod bound;
mod counts;
pub mod pair;
mod signals;
mod spill;

use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::{
    Backend, FlowKey, Mode, Outcome, Phase,
    flow::{self, Direction},
    flow_table::{self, Bind, Cells as _, Hit, Meta, Places, Record, Refused},
    wire::tcp,
};

pub use self::bound::{answers_to, worker_port};
use crate::{
    cells::Bucket,
    family::Stages,
    maps::{BACKENDS, settings},
    parse::Parsed,
    room::{self, Room},
};

/// An entry of the flow table, shared with all CPUs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow<F: Stages> {
    /// Index of its bucket.
    pub bucket: u32,
    /// 1 where the look-up ended an entry of the same 5-tuple whose backend has left.
    pub was_left: u32,
    pub hit: Hit<F>,
}

impl<F: Stages> Flow<F> {
    #[inline(always)]
    const fn new(bucket: u32, hit: Hit<F>) -> Self {
        Self {
            bucket,
            was_left: 0,
            hit,
        }
    }

    /// Its bucket.
    #[inline(always)]
    fn cells(&self) -> Option<Bucket> {
        F::bucket(self.bucket)
    }

    /// The backend that the entry names.
    #[inline(always)]
    pub fn backend(&self) -> Option<&'static Backend> {
        BACKENDS.get(self.hit.meta.backend())
    }
}

/// A flow with what it refers to.
pub struct Found<F: Stages> {
    pub flow: Flow<F>,
    pub backend: &'static Backend,
    pub cells: Bucket,
}

/// The forwarding mode of a backend's service.
#[inline(always)]
pub fn mode(backend: &Backend) -> Mode {
    Mode::from_number(backend.mode).unwrap_or(Mode::Nat)
}

/// The buckets of a 5-tuple.
#[inline(always)]
fn places<F: Stages>(key: &FlowKey<F>) -> Places {
    let seed = settings().map_or(0, |settings| settings.hash_seed);
    flow_table::places(key, seed, F::buckets())
}

/// Now, in ticks.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    flow::tick(jiffies, settings().map_or(0, |settings| settings.tick_shift))
}

#[inline(always)]
fn is_udp<F: Stages>(key: &FlowKey<F>) -> bool {
    key.protocol != tcp::PROTOCOL
}

/// Looks a client's packet up where it is most likely.
#[inline(always)]
pub fn find<F: Stages>(key: &FlowKey<F>) -> Option<Found<F>> {
    let places = places(key);
    let bucket = F::bucket(places.first)?;
    let mut backend = None;
    let found = flow_table::find(bucket, &key.source, key.ports, is_udp(key), |hit| {
        backend = BACKENDS.get(hit.meta.backend());
        backend.is_some_and(|backend| is_of_client(key, backend))
    });
    Some(Found {
        flow: Flow::new(places.first, found?),
        backend: backend?,
        cells: bucket,
    })
}

/// Looks a client's packet up wherever it may be. Says whether it found it; [`Flow::was_left`] says whether it found
/// what a backend that left has left behind.
#[inline(always)]
pub fn search_in<F: Stages>(key: &FlowKey<F>, flow: &mut Flow<F>) -> bool {
    let places = places(key);
    flow.was_left = 0;
    for place in [places.first, places.second] {
        if place != places.first && !spill::is_marked::<F>(places.first) {
            return false;
        }
        let Some(bucket) = F::bucket(place) else {
            return false;
        };
        let hit = flow_table::search(bucket, &key.source, key.ports, is_udp(key), |hit| {
            let Some(backend) = BACKENDS.get(hit.meta.backend()) else {
                return false;
            };
            let is_of_client = is_of_client(key, backend);
            if ends_stale(bucket, hit, backend) {
                flow.was_left |= is_of_client as u32;
                return false;
            }
            is_of_client
        });
        if let Some(hit) = hit {
            *flow = Flow::new(place, hit);
            return true;
        }
    }
    false
}

/// Whether the backend that an entry names is the one that it was entered with. What a backend that left has left behind is
/// never followed: another flow with the same 5-tuple may stand beside it.
#[inline(always)]
fn is_current<F: Stages>(hit: &Hit<F>, backend: &Backend) -> bool {
    hit.meta.is_generation(backend.status.generation())
}

/// Ends an entry that its backend left behind; says whether it is such a one. The counts have forgotten it already.
#[inline(always)]
fn ends_stale<F: Stages>(cells: Bucket, hit: &Hit<F>, backend: &Backend) -> bool {
    if is_current(hit, backend) {
        return false;
    }
    if let Some(offset) = hit.meta_offset() {
        cells.swap_u64(offset, hit.meta.0, hit.meta.freed().0);
    }
    true
}

#[inline(always)]
fn is_of_client<F: Stages>(key: &FlowKey<F>, backend: &Backend) -> bool {
    *F::view(&backend.virtual_address) == key.destination
}

/// Looks a worker's answer up where it is most likely.
#[inline(always)]
pub fn find_answer<F: Stages>(key: &FlowKey<F>) -> Option<Found<F>> {
    let places = places(key);
    let bucket = F::bucket(places.first)?;
    let mut backend = None;
    let found = flow_table::find_answer(bucket, key.ports.destination(), is_udp(key), |hit| {
        backend = BACKENDS.get(hit.meta.backend());
        backend.is_some_and(|backend| bound::is_answer(key, hit, backend))
    });
    Some(Found {
        flow: Flow::new(places.first, found?),
        backend: backend?,
        cells: bucket,
    })
}

/// Looks a worker's answer up wherever it may be. Says whether it found it.
#[inline(always)]
pub fn search_answer_in<F: Stages>(key: &FlowKey<F>, flow: &mut Flow<F>) -> bool {
    let places = places(key);
    for place in [places.first, places.second] {
        if place != places.first && !spill::is_marked::<F>(places.first) {
            return false;
        }
        let Some(bucket) = F::bucket(place) else {
            return false;
        };
        let hit = flow_table::search_answer(bucket, key.ports.destination(), is_udp(key), |hit| {
            BACKENDS
                .get(hit.meta.backend())
                .is_some_and(|backend| !ends_stale(bucket, hit, backend) && bound::is_answer(key, hit, backend))
        });
        if let Some(hit) = hit {
            *flow = Flow::new(place, hit);
            return true;
        }
    }
    false
}

/// The phase after a client's packet.
#[inline(always)]
fn phase_after<F: Stages>(phase: Phase, backend: &Backend, parsed: &Parsed<F>) -> Phase {
    if mode(backend).translates() {
        phase.after(Direction::ToWorker, parsed.flags)
    } else {
        phase.after_one_sided(parsed.flags, parsed.is_udp())
    }
}

/// Whether a client's packet would change the phase of its flow.
#[inline(always)]
pub fn would_change<F: Stages>(meta: Meta, backend: &Backend, parsed: &Parsed<F>) -> bool {
    phase_after(meta.phase(), backend, parsed) as u32 != meta.phase() as u32
}

/// Whether a worker's packet may change the phase of its flow.
#[inline(always)]
pub fn answer_tells<F: Stages>(meta: Meta, parsed: &Parsed<F>) -> bool {
    if parsed.is_udp() {
        matches!(meta.phase(), Phase::Opening)
    } else {
        parsed.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
    }
}

/// Notes when a packet came.
#[inline(always)]
pub fn note_time<F: Stages>(cells: Bucket, hit: &Hit<F>) {
    let touched = hit.meta.touched(hit.meta.phase(), now());
    // A lost race means that another packet of the flow came at the same time.
    if touched != hit.meta
        && let Some(offset) = hit.meta_offset()
    {
        cells.swap_u64(offset, hit.meta.0, touched.0);
    }
}

/// As [`note_time`].
#[inline(always)]
pub fn note_time_of<F: Stages>(flow: &Flow<F>) {
    if let Some(cells) = flow.cells() {
        note_time(cells, &flow.hit);
    }
}

/// Notes a client's packet: the time, and how far the connection has come with it.
#[inline(always)]
pub fn touch<F: Stages>(flow: &Flow<F>, backend: &Backend, parsed: &Parsed<F>) {
    let Some(cells) = flow.cells() else { return };
    let touched = flow_table::touch(cells, &flow.hit, now(), |phase| phase_after(phase, backend, parsed));
    if let Some(touched) = touched
        && touched.before as u32 != touched.after as u32
    {
        F::flow_changed(flow, touched.before as u32, touched.after as u32);
    }
}

/// Enters a flow to the backend that was chosen, in both directions where answers pass here too. The room then tells the
/// backend and the bind, which are others where another CPU was faster.
#[inline(always)]
pub fn claim<F: Stages>(room: &mut Room<F>, backend: &'static Backend, hop: u32) -> Result<(), Outcome> {
    room.evicted[room::BY_FLOW].meta = Meta(0);
    room.evicted[room::BY_ANSWERS].meta = Meta(0);
    room.chosen.is_entered = 0;
    let udp = room.parsed.is_udp();
    let translates = mode(backend).translates();
    room.new.record = Record {
        phase: if translates && room.chosen.is_moved == 0 {
            Phase::Opening
        } else {
            Phase::first(room.parsed.flags, udp)
        },
        udp,
        direction: Direction::ToClient,
        backend: room.chosen.backend,
        generation: backend.status.generation(),
        now: now(),
    };
    room.new.address = room.parsed.key.source;
    room.new.ports = room.parsed.key.ports;
    room.new.bind = Bind::new(room.parsed.key.ports.source(), hop, 0);
    if translates {
        claim_answers::<F>(backend)?;
    }
    room.new.record.direction = Direction::ToWorker;
    let key = room.parsed.key;
    let announced = F::announce_flow(&key);
    let evicted = &mut room.evicted[room::BY_FLOW];
    let is_own = !evicted.meta.is_free()
        && evicted.meta.is_kind(udp, Direction::ToClient)
        && evicted.address == room.new.address
        && evicted.ports == room.new.ports;
    let mut refused = 0;
    if is_own {
        // The only entry that could give way was that of the answers, which was just made: there is no room for both.
        evicted.meta = Meta(0);
        refused = FULL;
    }
    let result = conclude(room, announced, refused, |bucket, mine| {
        F::contested_flow(&key, bucket, mine)
    });
    if result == ENTERED {
        // A full barrier: whoever takes the answers' entry away from now on finds the flow, and ends it.
        counts::begun(room.chosen.backend, room.chosen.service, room.new.record.phase);
        room.chosen.is_entered = 1;
        room.chosen.bind = room.new.bind;
        return Ok(());
    }
    if translates {
        // The port belongs to nobody without the first entry.
        F::withdraw_answers();
    }
    if result == FULL {
        return Err(Outcome::FlowTableFull);
    }
    // Another CPU entered the same flow at the same time: follow that one.
    if result == EXISTS && F::search_flow(&room.parsed.key, &mut room.flow) != 0 {
        room.chosen.backend = room.flow.hit.meta.backend();
        room.chosen.bind = room.flow.hit.bind;
        return Ok(());
    }
    Err(Outcome::ClaimRaced)
}

/// Ends the flow that the room entered where its answers' entry is gone; says whether it did. Another CPU may have evicted
/// that before the flow went live, and could not end the flow then.
#[inline(always)]
pub fn ends_half<F: Stages>(room: &mut Room<F>) -> bool {
    if room.chosen.is_entered == 0 || F::answers_stand() != 0 {
        return false;
    }
    if F::search_flow(&room.parsed.key, &mut room.flow) != 0 {
        F::flow_released(&room.flow);
    }
    true
}

/// Ends all of the flows whose entries gave way in the last claim.
#[inline(always)]
pub fn end_evicted<F: Stages>(room: &Room<F>) {
    if !room.evicted[room::BY_FLOW].meta.is_free() {
        F::flow_evicted(room::BY_FLOW as u32);
    }
    if !room.evicted[room::BY_ANSWERS].meta.is_free() {
        F::flow_evicted(room::BY_ANSWERS as u32);
    }
}

/// Enters the answers' direction of the flow in the room; in `nat` under the first source port that is free.
#[inline(always)]
fn claim_answers<F: Stages>(backend: &Backend) -> Result<(), Outcome> {
    let tries = if matches!(mode(backend), Mode::Dnat) {
        1
    } else {
        bound::PORT_TRIES
    };
    let mut result = EXISTS;
    let mut turn = 0;
    while turn < tries {
        F::pick_port(turn);
        let announced = F::announce_answer();
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        result = conclude(room, announced, 0, F::contested_answer);
        if result == ENTERED {
            room.answers = room.announced;
            return Ok(());
        }
        // A second entry that gave way would have no place in the room. The sender repeats.
        if !room.evicted[room::BY_ANSWERS].meta.is_free() {
            return Err(Outcome::ClaimRaced);
        }
        // Where it is full, another port has other buckets.
        turn += 1;
    }
    Err(if result == FULL {
        Outcome::FlowTableFull
    } else {
        Outcome::NatPortsExhausted
    })
}

// What the functions that claim return.
const ENTERED: u32 = 1;
const FULL: u32 = 2;
const EXISTS: u32 = 3;
const RACED: u32 = 4;

#[inline(always)]
fn number(refused: Refused) -> u32 {
    match refused {
        Refused::Full => FULL,
        Refused::Exists => EXISTS,
        Refused::Raced => RACED,
    }
}

/// Announces the entry of the flow in the room that packets with this 5-tuple find. Returns [`ENTERED`], or the number of a
/// [`Refused`]. What gives way to it is kept in the room, at `by`.
#[inline(always)]
pub fn announce<F: Stages>(key: &FlowKey<F>, by: usize) -> u32 {
    let Some(room) = F::room() else { return FULL };
    let places = places(key);
    let (Some(first), Some(second)) = (F::bucket(places.first), F::bucket(places.second)) else {
        return FULL;
    };
    let spill = || spill::mark::<F>(places.first);
    match flow_table::announce([first, second], &room.new, expiry(), &mut room.evicted[by], spill) {
        Ok(announced) => {
            room.announced.meta = announced.meta;
            room.announced.places = places;
            room.announced.second = announced.second as u32;
            room.announced.way = announced.way as u32;
            ENTERED
        }
        Err(refused) => number(refused),
    }
}

/// Lets the announced entry go live, unless it is refused already or contested.
#[inline(always)]
fn conclude<F: Stages>(
    room: &mut Room<F>,
    announced: u32,
    mut refused: u32,
    contested: impl Fn(u32, u32) -> u32,
) -> u32 {
    if announced != ENTERED {
        return announced;
    }
    let Places { first, second } = room.announced.places;
    let way = room.announced.way;
    let none = flow_table::WAYS as u32;
    let (bucket, mine) = if room.announced.second != 0 {
        (second, [none, way])
    } else {
        (first, [way, none])
    };
    if refused == 0 {
        refused = contested(first, mine[0]);
    }
    if refused == 0 && spill::is_marked::<F>(first) {
        refused = contested(second, mine[1]);
    }
    F::conclude_claim(bucket, refused);
    if refused == 0 { ENTERED } else { refused }
}

/// Lets the announced entry go live, or takes it back where it is refused.
#[inline(always)]
pub fn settle<F: Stages>(bucket: u32, refused: u32) -> u32 {
    let (Some(room), Some(cells)) = (F::room(), F::bucket(bucket)) else {
        return 0;
    };
    let (way, meta) = (room.announced.way as usize, room.announced.meta);
    if way >= flow_table::WAYS {
        return 0;
    }
    if refused == 0 {
        flow_table::publish::<F, _>(cells, way, meta);
    } else {
        flow_table::withdraw::<F, _>(cells, way, meta);
    }
    1
}

/// Whether a bucket has another entry that the client's packets of the flow in the room would find. Returns 0, or the
/// number of a [`Refused`].
#[inline(always)]
pub fn contested<F: Stages>(key: &FlowKey<F>, bucket: u32, mine: u32) -> u32 {
    let (Some(room), Some(bucket)) = (F::room(), F::bucket(bucket)) else {
        return FULL;
    };
    let new = &room.new;
    let difference = |way| F::difference(bucket, way, &key.source, key.ports);
    let refused = flow_table::contested::<F, _>(bucket, mine as usize, difference, |other| {
        other.address == new.address
            && other.ports == new.ports
            && other.meta.is_kind(new.record.udp, Direction::ToWorker)
            && BACKENDS
                .get(other.meta.backend())
                .is_some_and(|backend| is_current(other, backend) && is_of_client(key, backend))
    });
    refused.map_or(0, number)
}

#[inline(always)]
fn expiry() -> u32 {
    settings().map_or(0, |settings| settings.expiry)
}
