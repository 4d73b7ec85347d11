//! Answers what the admin API asks, from the maps as they are.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_common::{Backend, BackendState, BackendLoad, abi::MAP_ABI_VERSION, flow::TICK_NANOSECONDS};
use tokio::sync::watch;

use crate::{
    admin::{Inspect, InspectError, model::*},
    config::{self, Config, Word},
    dataplane::{Tables, VirtualAddress, flows::{self, FlowEntry}},
    health::{Health, Monitor, TargetId, Verdict},
    neighbour::NextHopState,
};

/// What the answers are made of.
pub(super) struct Inspector {
    pub(super) config: Arc<Config>,
    pub(super) config_path: PathBuf,
    pub(super) tables: Tables,
    pub(super) health: Arc<Monitor>,
    pub(super) next_hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    pub(super) reconcile: watch::Receiver<ReconcileStatus>,
    pub(super) interfaces: Vec<InterfaceStatus>,
    pub(super) warnings: Vec<String>,
    pub(super) started: SystemTime,
}

/// The entries of the maps by what the configuration calls them.
struct Entries {
    /// Index of a service by its address.
    services: HashMap<VirtualAddress, u32>,
    /// Index and entry of a backend by index of the service, and address.
    backends: HashMap<(u32, std::net::SocketAddr), (u32, Backend)>,
}

impl Inspector {
    fn entries(&self) -> Result<Entries, InspectError> {
        let services = self.tables.service_index().map_err(InspectError::new)?.into_iter().collect();
        let backends = (0..self.tables.backends.len())
            .filter_map(|index| Some((index, self.tables.backends.read(index)?)))
            .filter(|(_, backend)| backend.status.state() != BackendState::Free)
            .filter_map(|(index, backend)| {
                let address = lb_common::family::address::from_words(backend.status.family(), backend.address)?;
                let address = std::net::SocketAddr::new(address, backend.status.port().host());
                Some(((backend.service, address), (index, backend)))
            })
            .collect();
        Ok(Entries { services, backends })
    }
}
