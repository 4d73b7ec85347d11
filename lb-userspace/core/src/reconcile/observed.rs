//! What the maps hold, as reconciliation sees it.

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
    /// How many entries there are.
    pub capacity: Capacity,
    /// Services in use, by index.
    pub services: BTreeMap<u32, Service>,
    /// Which services packets can find.
    pub listed: HashMap<Listing, u32>,
    /// What addresses may be.
    pub classes: Classes,
    /// Which sources services take or refuse.
    pub guards: BTreeMap<Guarded, GuardVerdict>,
    /// Backends that are or were in use, by index; those that were keep their generation.
    pub backends: BTreeMap<u32, Backend>,
    /// The next hops of the backends in use, by index of the backend.
    pub next_hops: BTreeMap<u32, NextHop>,
    /// What the ring of each service holds, by index of the service.
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
