//! Finds the map entry of a backend by service and address.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use lb_common::{Backend, BackendLoad, BackendState, family::address};

use crate::dataplane::{DataplaneError, Tables};
use lb_core::{
    config,
    reconcile::{self, Front},
};

/// The backends in the maps, with their indexes, by service and own address.
pub(super) struct MapEntries(HashMap<(Front, SocketAddr), (u32, Backend)>);

impl MapEntries {
    /// Reads them.
    pub(super) fn read(tables: &Tables) -> Result<Self, DataplaneError> {
        let listed: HashSet<u32> = tables.listings()?.into_iter().map(|(_, index)| index).collect();
        let services: HashMap<u32, Front> = listed
            .into_iter()
            .filter_map(|index| Some((index, reconcile::front(&tables.services.read(index)?)?)))
            .collect();
        let entries = (0..tables.backends.len())
            .filter_map(|index| Some((index, tables.backends.read(index)?)))
            .filter(|(_, backend)| backend.status.state() != BackendState::Free)
            .filter_map(|(index, backend)| {
                let ip = address::from_words(backend.status.family(), backend.address)?;
                let at = services.get(&backend.service)?;
                Some((
                    (*at, SocketAddr::new(ip, backend.status.port().host())),
                    (index, backend),
                ))
            });
        Ok(Self(entries.collect()))
    }

    /// Index and entry of a backend.
    pub(super) fn find(&self, service: &config::Service, backend: SocketAddr) -> Option<&(u32, Backend)> {
        self.0.get(&(front(service), backend))
    }

    /// The number of flows of a backend, embryonic and active; `None`: it is not in the maps.
    pub(super) fn flows(&self, tables: &Tables, service: &config::Service, backend: SocketAddr) -> Option<u64> {
        let (index, _) = self.find(service, backend)?;
        let load = tables.loads.read(*index).unwrap_or(BackendLoad::ZERO);
        Some(u64::from(load.active) + u64::from(load.embryonic))
    }
}

/// What identifies a service of the configuration in the maps.
pub(super) fn front(service: &config::Service) -> Front {
    (service.into(), service.ports.count() > 1)
}
