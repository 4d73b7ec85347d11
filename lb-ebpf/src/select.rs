//! Select: which backend takes a new flow.

use lb_common::{BackendLoad, Ring, RingSlot, Scheduler, Service};

use crate::{
    atomic,
    maps::{BACKEND_LOADS, RINGS, SERVICE_STATES},
    repeat::{Step, repeat},
};

/// Up to how many backends `least-connection` compares; the configuration refuses more.
const COMPARED: u32 = lb_common::service::MAX_LEAST_CONNECTION;

/// The backend for a new flow; `None` where none is up.
#[inline(always)]
pub fn backend(index: u32, service: &Service) -> Option<u32> {
    // One load of the word: ring and scheduler of one moment.
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let ring = unsafe { core::ptr::read_volatile(&raw const service.ring) };
    let length = ring.length();
    if length == 0 {
        return None;
    }
    let cursor = SERVICE_STATES.get_ptr_mut(index)?;
    // SAFETY: a pointer to a map value.
    let turn = atomic::fetch_add_u64(unsafe { &raw mut (*cursor).cursor }, 1);
    match ring.scheduler()? {
        Scheduler::RoundRobin => Some(slot(ring, (turn % length as u64) as u32)?.backend),
        _ => least_loaded(ring, (turn % length as u64) as u32),
    }
}

#[inline(always)]
fn slot(ring: Ring, position: u32) -> Option<&'static RingSlot> {
    RINGS.get(ring.offset() + position)
}

/// Compares all backends, beginning at another one each time so that equals take turns.
#[inline(always)]
fn least_loaded(ring: Ring, first: u32) -> Option<u32> {
    let mut search = Search {
        ring,
        position: first,
        best: u32::MAX,
        load: Load {
            flows: u32::MAX,
            weight: 1,
        },
    };
    let count = if ring.length() < COMPARED {
        ring.length()
    } else {
        COMPARED
    };
    repeat(count, compare, &mut search);
    if search.best == u32::MAX {
        None
    } else {
        Some(search.best)
    }
}

/// The state of a comparison.
struct Search {
    ring: Ring,
    position: u32,
    /// Index of the best backend so far; `u32::MAX` before the first.
    best: u32,
    load: Load,
}

extern "C" fn compare(_turn: u32, search: &mut Search) -> Step {
    let Some(slot) = slot(search.ring, search.position) else {
        return Step::Stop;
    };
    let Some(load) = Load::of(slot) else {
        return Step::Stop;
    };
    if load.is_below(&search.load) {
        search.best = slot.backend;
        search.load = load;
    }
    search.position = if search.position + 1 >= search.ring.length() {
        0
    } else {
        search.position + 1
    };
    Step::Continue
}

/// Flows of a backend against its weight.
struct Load {
    flows: u32,
    weight: u32,
}

impl Load {
    #[inline(always)]
    fn of(slot: &RingSlot) -> Option<Self> {
        let load: &BackendLoad = BACKEND_LOADS.get(slot.backend)?;
        // Handshakes count too, or a burst of SYNs would all go to the backend that happens to have one flow less.
        let flows = load.active.wrapping_add(load.embryonic);
        Some(Self {
            flows,
            weight: slot.weight,
        })
    }

    /// Whether (flows + 1) / weight is less than the other's.
    #[inline(always)]
    fn is_below(&self, other: &Self) -> bool {
        (self.flows as u64 + 1) * (other.weight as u64) < (other.flows as u64 + 1) * (self.weight as u64)
    }
}
