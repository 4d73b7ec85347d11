//! The observed state: what the maps hold now.

use std::collections::{BTreeMap, HashMap};

use lb_common::{Backend, BackendState, NextHop, Service};

use super::{
    GuardVerdict, Guarded, Listing,
    classes::Classes,
    store::{Capacity, Store},
};
use crate::schedule;

/// What the maps hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Number of entries of each map.
    pub capacity: Capacity,
    /// Services in use, by index.
    pub services: BTreeMap<u32, Service>,
    /// The listings, with the index of their service.
    pub listed: HashMap<Listing, u32>,
    /// The class of each address.
    pub classes: Classes,
    /// The allow and deny lists.
    pub guards: BTreeMap<Guarded, GuardVerdict>,
    /// Backends that are or were in use, by index. Unused entries still hold their generation.
    pub backends: BTreeMap<u32, Backend>,
    /// The next hops of the backends in use, by index of the backend.
    pub next_hops: BTreeMap<u32, NextHop>,
    /// The content of each service's ring, as a digest, by index of the service.
    pub rings: BTreeMap<u32, schedule::Digest>,
}

/// Reads what the maps hold.
///
/// # Errors
///
/// When a map cannot be read.
pub fn observe<S: Store>(store: &S) -> Result<Observed, S::Error> {
    let capacity = store.capacity();
    let services: BTreeMap<_, _> = (0..capacity.services)
        .filter_map(|index| Some((index, store.service(index)?)))
        .filter(|(_, service)| service.ring.scheduler().is_some())
        .collect();
    let backends: BTreeMap<_, _> = (0..capacity.backends)
        .filter_map(|index| Some((index, store.backend(index)?)))
        .filter(|(_, backend)| backend.status.0 != 0)
        .collect();
    let next_hops = backends
        .iter()
        .filter(|(_, backend)| backend.status.state() != BackendState::Free)
        .filter_map(|(index, _)| Some((*index, store.next_hop(*index)?)))
        .collect();
    let rings = services
        .iter()
        .map(|(index, service)| (*index, store.ring(service.ring)))
        .collect();
    let listed = store.listed()?.into_iter().collect();
    Ok(Observed {
        capacity,
        services,
        listed,
        classes: store.classes(),
        guards: store.guards()?.into_iter().collect(),
        backends,
        next_hops,
        rings,
    })
}
