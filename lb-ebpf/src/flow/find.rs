//! Find: from a 5-tuple to an entry of the flow table.
//!
//! `find_*` looks at the first slot of the first bucket that can match, for the fast path.
//! `search_*` looks everywhere, and ends entries of removed backends.

use lb_common::{
    Backend, FlowKey,
    flow_table::{self, Cells as _, Hit, Layout, Places},
    wire::tcp,
};

use super::{entry::Flow, replies::is_reply, spill};
use crate::{
    bpf::{
        bucket::Bucket,
        maps::{BACKENDS, settings},
    },
    family::{Ip, Tables, subprogram::subprogram},
};

/// A flow with its backend and its bucket.
pub struct Found<F: Layout> {
    pub flow: Flow<F>,
    pub backend: &'static Backend,
    pub cells: Bucket,
}

/// The two buckets of a 5-tuple.
#[inline(always)]
pub fn places<F: Tables>(key: &FlowKey<F>) -> Places {
    let seed = settings().map_or(0, |settings| settings.hash_seed);
    flow_table::places(key, seed, F::buckets())
}

#[inline(always)]
fn is_udp<F: Layout>(key: &FlowKey<F>) -> bool {
    key.protocol != tcp::PROTOCOL
}

/// Finds the flow of a client's packet in its most likely place.
#[inline(always)]
pub fn find_flow<F: Tables>(key: &FlowKey<F>) -> Option<Found<F>> {
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

/// Finds the entry of a worker's reply in its most likely place.
#[inline(always)]
pub fn find_reply<F: Tables>(key: &FlowKey<F>) -> Option<Found<F>> {
    let places = places(key);
    let bucket = F::bucket(places.first)?;
    let mut backend = None;
    let found = flow_table::find_reply(bucket, key.ports.destination(), is_udp(key), |hit| {
        backend = BACKENDS.get(hit.meta.backend());
        backend.is_some_and(|backend| is_reply(key, hit, backend))
    });
    Some(Found {
        flow: Flow::new(places.first, found?),
        backend: backend?,
        cells: bucket,
    })
}

subprogram! {
    /// Finds the flow of a client's packet wherever it is. Returns whether it found one;
    /// [`Flow::was_left`] says whether it found an entry of a removed backend.
    pub fn search_flow<F>(key: in FlowKey, flow: out Flow) -> bool = search;
}

subprogram! {
    /// Finds the entry of a worker's reply wherever it is. Returns whether it found one.
    pub fn search_reply<F>(key: in FlowKey, flow: out Flow) -> bool = search_worker;
}

#[inline(always)]
fn search<F: Ip>(key: &FlowKey<F>, flow: &mut Flow<F>) -> bool {
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
            if end_stale(bucket, hit, backend) {
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

#[inline(always)]
fn search_worker<F: Ip>(key: &FlowKey<F>, flow: &mut Flow<F>) -> bool {
    let places = places(key);
    for place in [places.first, places.second] {
        if place != places.first && !spill::is_marked::<F>(places.first) {
            return false;
        }
        let Some(bucket) = F::bucket(place) else {
            return false;
        };
        let hit = flow_table::search_reply(bucket, key.ports.destination(), is_udp(key), |hit| {
            BACKENDS
                .get(hit.meta.backend())
                .is_some_and(|backend| !end_stale(bucket, hit, backend) && is_reply(key, hit, backend))
        });
        if let Some(hit) = hit {
            *flow = Flow::new(place, hit);
            return true;
        }
    }
    false
}

/// Whether the backend that an entry names is the one that it was created for. An entry of a
/// removed backend is never followed: another flow with the same 5-tuple can be beside it.
#[inline(always)]
pub fn is_current<F: Layout>(hit: &Hit<F>, backend: &Backend) -> bool {
    hit.meta.is_generation(backend.status.generation())
}

/// Whether a client's packet is for the virtual address of the backend.
#[inline(always)]
pub fn is_of_client<F: Layout>(key: &FlowKey<F>, backend: &Backend) -> bool {
    *F::view(&backend.virtual_address) == key.destination
}

/// Ends an entry whose backend was removed. Returns whether it was one. The counts no longer
/// include it.
#[inline(always)]
fn end_stale<F: Layout>(cells: Bucket, hit: &Hit<F>, backend: &Backend) -> bool {
    if is_current(hit, backend) {
        return false;
    }
    if let Some(offset) = hit.meta_offset() {
        cells.swap_u64(offset, hit.meta.0, hit.meta.freed().0);
    }
    true
}
