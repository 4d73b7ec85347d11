//! What the maps should hold: a pure function of configuration, health and next hops.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use lb_common::{BackendState, Mode, NextHop, OnBackendDown, Scheduler};

use crate::{
    config::{self, Config, Guard, PortRange},
    dataplane::VirtualAddress,
    health::{TargetId, Verdict},
    schedule::ramp,
};

/// What the maps should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The services: of one address and protocol no port twice, but that single ports may lie within ranges.
    pub services: Vec<DesiredService>,
}

/// A service as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// What clients connect to; of several ports the first.
    pub at: VirtualAddress,
    /// The last port; that of `at` where there is one.
    pub last_port: u16,
    /// Forwarding mode.
    pub mode: Mode,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// How many leading bits of the client's address `source-hash` looks at.
    pub source_prefix: u8,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// Source addresses for `nat`.
    pub sources: Vec<IpAddr>,
    /// Source ports for `nat`.
    pub nat_ports: PortRange,
    /// Whether workers get the client's address in a TCP option.
    pub toa: bool,
    /// Who may begin flows, and how many.
    pub guard: Guard,
    /// The backends, each address at most once.
    pub backends: Vec<DesiredBackend>,
}

impl DesiredService {
    /// Whether it has more than one port.
    pub fn is_ranged(&self) -> bool {
        self.last_port > self.at.port
    }
}

/// A backend as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBackend {
    /// Address and port; port 0: as the packet.
    pub address: SocketAddr,
    /// Whether it takes new flows only while no other backend does.
    pub fallback: bool,
    /// Share of new flows.
    pub weight: u32,
    /// Whether it takes packets; `None` while that is not known: then it stays as it is, and begins by draining.
    pub state: Option<BackendState>,
    /// Where its frames go; `None` while not resolved.
    pub next_hop: Option<NextHop>,
    /// The way of its packets in the tunnel modes.
    pub tunnel: Option<DesiredTunnel>,
}

/// How packets of a tunnel mode travel to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredTunnel {
    /// Outer source addresses; host bits come from the flow.
    pub source: IpNet,
    /// UDP port of the far end; 0 in `ipip`.
    pub port: u16,
}

/// What is known of workers and neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What health checks say.
    pub verdicts: &'a BTreeMap<TargetId, Verdict>,
    /// Backends that were down and came up, and how long ago.
    pub returned: &'a BTreeMap<TargetId, Duration>,
    /// Next hops that are resolved.
    pub next_hops: &'a BTreeMap<IpAddr, NextHop>,
}

/// What the maps should hold, given the configuration and what is known of workers and neighbours.
pub fn desired(config: &Config, known: Known<'_>) -> Desired {
    let services = config.services.iter().map(|service| DesiredService {
        at: service.into(),
        last_port: service.ports.high,
        mode: service.mode,
        scheduler: service.scheduler,
        source_prefix: service.source_prefix,
        on_backend_down: service.on_backend_down,
        sources: service.sources.clone(),
        nat_ports: config.node.nat_ports,
        toa: service.toa,
        guard: service.guard.clone(),
        backends: backends(service, known),
    });
    Desired {
        services: services.collect(),
    }
}

fn backends(service: &config::Service, known: Known<'_>) -> Vec<DesiredBackend> {
    let weights = weights(service, known.returned);
    let backends = service.backends.iter().zip(weights);
    backends
        .map(|(backend, weight)| DesiredBackend {
            address: backend.address,
            fallback: backend.fallback,
            weight,
            state: match service.health {
                None => Some(in_service(backend.weight)),
                Some(_) => match known
                    .verdicts
                    .get(&target(service, backend))
                    .copied()
                    .unwrap_or_default()
                {
                    Verdict::Up => Some(in_service(backend.weight)),
                    Verdict::Down => Some(BackendState::Down),
                    Verdict::Unknown => None,
                },
            },
            next_hop: known.next_hops.get(&backend.address.ip()).copied(),
            tunnel: tunnel(service, backend.address.ip()),
        })
        .collect()
}

fn target(service: &config::Service, backend: &config::Backend) -> TargetId {
    TargetId {
        service: service.name.clone(),
        backend: backend.name.clone(),
    }
}

/// The shares of all backends in their order, less for those that returned not long ago. Fallback backends are the last
/// resort, and have all of their share at once.
fn weights(service: &config::Service, returned: &BTreeMap<TargetId, Duration>) -> Vec<u32> {
    let share = |backend: &config::Backend| {
        let elapsed = returned
            .get(&target(service, backend))
            .copied()
            .unwrap_or(Duration::MAX);
        (backend.weight, ramp::share(elapsed, service.slow_start))
    };
    let ordinary: Vec<_> = service
        .backends
        .iter()
        .filter(|backend| !backend.fallback)
        .map(share)
        .collect();
    let mut ramped = ramp::weights(service.scheduler, &ordinary).into_iter();
    service
        .backends
        .iter()
        .map(|backend| {
            let own = if backend.fallback { None } else { ramped.next() };
            own.unwrap_or(backend.weight)
        })
        .collect()
}

fn tunnel(service: &config::Service, worker: IpAddr) -> Option<DesiredTunnel> {
    let source = service.tunnel.source(worker)?;
    match service.mode {
        Mode::Ipip => Some(DesiredTunnel { source, port: 0 }),
        Mode::Gue => Some(DesiredTunnel {
            source,
            port: service.tunnel.gue_port,
        }),
        Mode::Nat | Mode::Dnat | Mode::Dsr => None,
    }
}

/// A backend with weight 0 takes no new flows and keeps the old ones.
fn in_service(weight: u32) -> BackendState {
    if weight == 0 {
        BackendState::Draining
    } else {
        BackendState::Up
    }
}
