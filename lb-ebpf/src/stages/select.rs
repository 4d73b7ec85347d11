//! Select: the backend for a new flow, by the scheduler of the service.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use lb_common::{
    BackendLoad, FlowKey, Ring, RingSlot, Scheduler, Service,
    choice::{self, Load},
    hash,
};

use crate::{
    bpf::{
        atomic,
        loops::{Turn, repeat},
        maps::{BACKEND_LOADS, RINGS, SERVICE_STATES},
    },
    family::Ip,
    packet::parsed::Parsed,
};

/// The largest ring of which `least-connection` compares all backends.
const COMPARED: u32 = lb_common::service::MAX_LEAST_CONNECTION;

/// Ring and scheduler of a service, in one read.
#[inline(always)]
pub fn ring(service: &Service) -> Ring {
    // SAFETY: a reference to a map value that the controller changes by whole words.
    unsafe { core::ptr::read_volatile(&raw const service.ring) }
}

/// The backend for a new flow; `None` where none is up.
#[inline(always)]
pub fn backend<F: Ip>(parsed: &Parsed<F>, index: u32, service: &Service, ring: Ring) -> Option<u32> {
    let length = ring.length();
    if length == 0 {
        return None;
    }
    let position = match ring.scheduler()? {
        Scheduler::RoundRobin => turn(index, length)?,
        Scheduler::Random => hash::reduce(random(), length),
        Scheduler::Maglev | Scheduler::SourceHash => return by_hash(&parsed.key, service, ring),
        Scheduler::LeastConnection if length <= COMPARED => {
            return some(least_loaded(ring, turn(index, length)?, NONE));
        }
        Scheduler::LeastConnection => return lesser_of_two(ring),
    };
    Some(slot(ring, position)?.backend)
}

/// The backend for a 5-tuple: the same on every balancer with the same ring.
#[inline(always)]
pub fn by_hash<F: Ip>(key: &FlowKey<F>, service: &Service, ring: Ring) -> Option<u32> {
    if ring.length() == 0 {
        return None;
    }
    let position = choice::by_hash(ring.scheduler()?, key, service.source_prefix, ring.length());
    Some(slot(ring, position)?.backend)
}

/// The next position in turn.
#[inline(always)]
fn turn(index: u32, length: u32) -> Option<u32> {
    let state = SERVICE_STATES.get_ptr_mut(index)?;
    // SAFETY: a pointer to a map value.
    let turn = atomic::fetch_add_u64(unsafe { &raw mut (*state).cursor }, 1);
    Some(choice::by_turn(turn, length))
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_get_prandom_u32() }
}

#[inline(always)]
fn slot(ring: Ring, position: u32) -> Option<&'static RingSlot> {
    RINGS.get(ring.offset() + position)
}

/// The less loaded one of two backends drawn at random ("the power of two choices").
#[inline(always)]
fn lesser_of_two(ring: Ring) -> Option<u32> {
    let one = slot(ring, hash::reduce(random(), ring.length()))?;
    let other = slot(ring, hash::reduce(random(), ring.length()))?;
    let lesser = if load(other)?.is_below(&load(one)?) { other } else { one };
    Some(lesser.backend)
}

/// No backend.
const NONE: u32 = u32::MAX;

#[inline(always)]
fn some(backend: u32) -> Option<u32> {
    if backend == NONE { None } else { Some(backend) }
}

/// Compares all backends but `avoided`, from `first` on: equals take turns.
#[inline(never)]
fn least_loaded(ring: Ring, first: u32, avoided: u32) -> u32 {
    let mut search = Search {
        ring,
        position: first,
        avoided,
        best: NONE,
        load: Load::MOST,
    };
    repeat(ring.length(), compare, &mut search);
    search.best
}

/// The state of a comparison.
struct Search {
    ring: Ring,
    position: u32,
    /// Index of the backend to avoid.
    avoided: u32,
    /// Index of the best backend so far; [`NONE`] before the first.
    best: u32,
    load: Load,
}

extern "C" fn compare(_turn: u32, search: &mut Search) -> Turn {
    let Some(slot) = slot(search.ring, search.position) else {
        return Turn::Stop;
    };
    let Some(load) = load(slot) else {
        return Turn::Stop;
    };
    if slot.backend != search.avoided && load.is_below(&search.load) {
        search.best = slot.backend;
        search.load = load;
    }
    search.position = after(search.ring, search.position);
    Turn::Continue
}

#[inline(always)]
fn after(ring: Ring, position: u32) -> u32 {
    if position + 1 >= ring.length() { 0 } else { position + 1 }
}

/// How many slots are searched for another backend. Every sender of SYNs can cause the search, so
/// it must be short.
const SEARCHED: u32 = 1024;

/// A backend for a flow whose own backend, `avoided`, does not answer; `None` where the search
/// finds no other.
#[inline(always)]
pub fn other<F: Ip>(parsed: &Parsed<F>, service: &Service, ring: Ring, avoided: u32) -> Option<u32> {
    let length = ring.length();
    if length == 0 {
        return None;
    }
    let scheduler = ring.scheduler()?;
    let first = match scheduler {
        // Turns are for new flows. A retransmitted SYN that took one would give the next flow the
        // same backend again.
        Scheduler::RoundRobin | Scheduler::LeastConnection | Scheduler::Random => hash::reduce(random(), length),
        Scheduler::Maglev | Scheduler::SourceHash => {
            choice::by_hash(scheduler, &parsed.key, service.source_prefix, length)
        }
    };
    some(
        if matches!(scheduler, Scheduler::LeastConnection) && length <= COMPARED {
            least_loaded(ring, first, avoided)
        } else {
            next_other(ring, first, avoided)
        },
    )
}

/// The first backend but `avoided`, from position `first` on.
#[inline(never)]
fn next_other(ring: Ring, first: u32, avoided: u32) -> u32 {
    let mut search = Search {
        ring,
        position: first,
        avoided,
        best: NONE,
        load: Load::MOST,
    };
    let length = ring.length();
    repeat(if length < SEARCHED { length } else { SEARCHED }, pass, &mut search);
    search.best
}

extern "C" fn pass(_turn: u32, search: &mut Search) -> Turn {
    let Some(slot) = slot(search.ring, search.position) else {
        return Turn::Stop;
    };
    if slot.backend != search.avoided {
        search.best = slot.backend;
        return Turn::Stop;
    }
    search.position = after(search.ring, search.position);
    Turn::Continue
}

#[inline(always)]
fn load(slot: &RingSlot) -> Option<Load> {
    let load: &BackendLoad = BACKEND_LOADS.get(slot.backend)?;
    Some(Load::new(load, slot.weight))
}
