//! What the maps should hold: a pure function of configuration, health and next hops.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Scheduler};

use crate::{
    config::{Config, PortRange},
    dataplane::VirtualAddress,
    health::{TargetId, Verdict},
};

/// What the maps should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The services, each virtual address at most once.
    pub services: Vec<DesiredService>,
}

/// A service as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// What clients connect to.
    pub at: VirtualAddress,
    /// Forwarding mode.
    pub mode: Mode,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// Source addresses for `nat`.
    pub sources: Vec<IpAddr>,
    /// Source ports for `nat`.
    pub nat_ports: PortRange,
    /// The backends, each address at most once.
    pub backends: Vec<DesiredBackend>,
}

/// A backend as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    /// Address and port.
    pub address: SocketAddr,
    /// Share of new flows.
    pub weight: u32,
    /// Whether it takes packets; `None` while that is not known: then it stays as it is, and begins by draining.
    pub state: Option<BackendState>,
    /// Where its frames go; `None` while not resolved.
    pub next_hop: Option<NextHop>,
}

/// What the maps should hold, given the configuration and what is known of workers and neighbours.
pub fn desired(
    config: &Config,
    verdicts: &BTreeMap<TargetId, Verdict>,
    next_hops: &BTreeMap<IpAddr, NextHop>,
) -> Desired {
    let services = config.services.iter().map(|service| DesiredService {
        at: VirtualAddress { address: service.address, port: service.port, protocol: service.protocol.number() },
        mode: service.mode,
        scheduler: service.scheduler,
        on_backend_down: service.on_backend_down,
        sources: service.sources.clone(),
        nat_ports: config.node.nat_ports,
        backends: service
            .backends
            .iter()
            .map(|backend| DesiredBackend {
                address: backend.address,
                weight: backend.weight,
                state: match service.health {
                    None => Some(in_service(backend.weight)),
                    Some(_) => {
                        let target = TargetId { service: service.name.clone(), backend: backend.name.clone() };
                        match verdicts.get(&target).copied().unwrap_or(Verdict::Unknown) {
                            Verdict::Up => Some(in_service(backend.weight)),
                            Verdict::Down => Some(BackendState::Down),
                            Verdict::Unknown => None,
                        }
                    }
                },
                next_hop: next_hops.get(&backend.address.ip()).copied(),
            })
            .collect(),
    });
    Desired { services: services.collect() }
}

/// A backend with weight 0 takes no new flows and keeps the old ones.
fn in_service(weight: u32) -> BackendState {
    if weight == 0 { BackendState::Draining } else { BackendState::Up }
}
