//! Answers what the admin API asks, from the maps as they are.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_common::{Backend, BackendCounters, BackendLoad, BackendState, Phase, abi::MAP_ABI_VERSION, family::address};
use tokio::sync::watch;

use crate::{
    admin::{
        Inspect, InspectError,
        model::{
            BackendStatus, FlowCount, FlowFilter, FlowPage, FlowStatus, FlowTable, FlowTables, HealthStatus,
            InterfaceStatus, NextHopStatus, NodeStatus, ReconcileStatus, ServiceStatus, timestamp,
        },
    },
    config::{self, Config, Word},
    dataplane::{DataplaneError, Tables, flows::FlowEntry},
    health::{Health, Monitor, TargetId, Verdict},
    neighbour::{NextHopState, NextHops},
    reconcile::{self, Front},
};

/// What the answers are made of.
pub(super) struct Inspector {
    pub(super) config: Arc<Config>,
    pub(super) config_path: PathBuf,
    pub(super) tables: Tables,
    pub(super) health: Arc<Monitor>,
    pub(super) next_hops: watch::Receiver<NextHops>,
    pub(super) reconcile: watch::Receiver<ReconcileStatus>,
    pub(super) interfaces: watch::Receiver<Vec<InterfaceStatus>>,
    pub(super) warnings: Vec<String>,
    pub(super) started: SystemTime,
}

/// Backends in the maps: index and entry by what their service is known by, and their own address.
type Entries = HashMap<(Front, SocketAddr), (u32, Backend)>;

impl Inspector {
    fn entries(&self) -> Result<Entries, DataplaneError> {
        let listed: HashSet<u32> = self.tables.listings()?.into_iter().map(|(_, index)| index).collect();
        let services: HashMap<u32, Front> = listed
            .into_iter()
            .filter_map(|index| Some((index, reconcile::front(&self.tables.services.read(index)?)?)))
            .collect();
        let entries = (0..self.tables.backends.len())
            .filter_map(|index| Some((index, self.tables.backends.read(index)?)))
            .filter(|(_, backend)| backend.status.state() != BackendState::Free)
            .filter_map(|(index, backend)| {
                let ip = address::from_words(backend.status.family(), backend.address)?;
                let at = services.get(&backend.service)?;
                Some((
                    (*at, SocketAddr::new(ip, backend.status.port().host())),
                    (index, backend),
                ))
            });
        Ok(entries.collect())
    }

    fn backend(
        &self,
        service: &config::Service,
        backend: &config::Backend,
        entries: &Entries,
        health: Option<&Health>,
    ) -> Result<BackendStatus, DataplaneError> {
        let entry = entries.get(&(front(service), backend.address));
        let (load, counters) = match entry {
            Some((index, _)) => (
                self.tables.loads.read(*index).unwrap_or(BackendLoad::ZERO),
                self.tables.backend_counters(*index)?,
            ),
            None => (BackendLoad::ZERO, BackendCounters::ZERO),
        };
        let (state, cause) = state(entry.map(|(_, backend)| backend), backend, health);
        let hop = self.next_hops.borrow().get(&backend.address.ip()).cloned();
        Ok(BackendStatus {
            service: service.name.clone(),
            name: backend.name.clone(),
            address: backend.address,
            weight: backend.weight,
            fallback: backend.fallback,
            state: state.to_owned(),
            cause,
            health: health.map(health_status),
            next_hop: hop.as_ref().and_then(next_hop),
            next_hop_problem: hop.filter(|hop| hop.hop.is_none()).map(|hop| hop.reason),
            active: u64::from(load.active),
            embryonic: u64::from(load.embryonic),
            total: load.total,
            to_worker_packets: counters.to_worker_packets,
            to_worker_bytes: counters.to_worker_bytes,
            to_client_packets: counters.to_client_packets,
            to_client_bytes: counters.to_client_bytes,
        })
    }

    fn service(&self, service: &config::Service, backends: &[BackendStatus]) -> ServiceStatus {
        let sum = |number: fn(&BackendStatus) -> u64| backends.iter().map(number).sum();
        ServiceStatus {
            name: service.name.clone(),
            address: service.address,
            port: service.ports.low,
            last_port: service.ports.high,
            protocol: service.protocol.name().to_owned(),
            mode: service.mode.word().to_owned(),
            scheduler: service.scheduler.word().to_owned(),
            on_backend_down: service.on_backend_down.word().to_owned(),
            backends_up: backends.iter().filter(|backend| backend.state == "up").count() as u64,
            backends_total: backends.len() as u64,
            active: sum(|backend| backend.active),
            embryonic: sum(|backend| backend.embryonic),
            total: sum(|backend| backend.total),
        }
    }

    fn flow(&self, entry: &FlowEntry, now: u32) -> FlowStatus {
        let at = entry.key.destination;
        let services = self.config.services.iter().filter(|service| {
            let protocol = service.protocol.number() == entry.key.protocol;
            protocol && service.address == at.ip() && service.ports.contains(at.port())
        });
        // A single port wins over a range that it lies in.
        let service = services.min_by_key(|service| service.ports.count());
        let backend = service.and_then(|service| {
            let to = entry.worker;
            let is = |address: SocketAddr| address.ip() == to.ip() && [0, to.port()].contains(&address.port());
            service.backends.iter().find(|backend| is(backend.address))
        });
        FlowStatus {
            protocol: if entry.key.protocol == config::Protocol::Tcp.number() {
                "tcp"
            } else {
                "udp"
            }
            .to_owned(),
            client: entry.key.source,
            virtual_address: entry.key.destination,
            source: entry.rewrite.source,
            backend: entry.worker,
            service: service.map(|service| service.name.clone()).unwrap_or_default(),
            backend_name: backend.map(|backend| backend.name.clone()).unwrap_or_default(),
            phase: entry.phase.name().to_owned(),
            idle_ms: (self.tables.clock.tick() * entry.idle(now)).as_millis() as u64,
        }
    }

    fn flow_tables(&self) -> FlowTables {
        let entries = self.tables.count_flow_entries();
        let capacity = self.tables.flow_capacity();
        let table = |family: usize| FlowTable {
            entries: entries[family],
            capacity: u64::from(capacity[family]),
        };
        FlowTables {
            v4: table(0),
            v6: table(1),
        }
    }
}

impl Inspect for Inspector {
    fn node(&self) -> Result<NodeStatus, InspectError> {
        let outcomes = self.tables.outcomes().map_err(InspectError::new)?;
        let interfaces = self.interfaces.borrow().clone();
        let problems = interfaces.iter().filter_map(|interface| interface.problem.clone());
        let warnings = self.warnings.iter().cloned().chain(problems).collect();
        Ok(NodeStatus {
            name: self.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: timestamp(self.started),
            uptime_seconds: self.started.elapsed().unwrap_or_default().as_secs(),
            config_path: self.config_path.clone(),
            map_abi: MAP_ABI_VERSION,
            interfaces,
            outcomes: outcomes
                .into_iter()
                .map(|(outcome, count)| (outcome.name().to_owned(), count))
                .collect(),
            flows: self.flow_tables(),
            reconcile: self.reconcile.borrow().clone(),
            warnings,
        })
    }

    fn services(&self) -> Result<Vec<ServiceStatus>, InspectError> {
        let backends = self.backends(None)?;
        Ok(self
            .config
            .services
            .iter()
            .map(|service| {
                let own: Vec<_> = backends
                    .iter()
                    .filter(|backend| backend.service == service.name)
                    .cloned()
                    .collect();
                self.service(service, &own)
            })
            .collect())
    }

    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError> {
        let entries = self.entries().map_err(InspectError::new)?;
        let health = self.health.snapshot();
        let mut found = Vec::new();
        for known in self
            .config
            .services
            .iter()
            .filter(|known| service.is_none_or(|name| name == known.name))
        {
            for backend in &known.backends {
                let id = TargetId {
                    service: known.name.clone(),
                    backend: backend.name.clone(),
                };
                found.push(
                    self.backend(known, backend, &entries, health.get(&id))
                        .map_err(InspectError::new)?,
                );
            }
        }
        Ok(found)
    }

    fn flows(&self, filter: &FlowFilter, limit: usize) -> Result<FlowPage, InspectError> {
        let now = self.tables.clock.now().map_err(InspectError::new)?;
        let mut page = FlowPage {
            flows: Vec::new(),
            truncated: false,
        };
        self.tables.for_each_flow(|entry| {
            if !entry.to_worker || page.truncated {
                return;
            }
            let flow = self.flow(&entry, now);
            if !filter.admits(&flow) {
                return;
            }
            if page.flows.len() < limit {
                page.flows.push(flow);
            } else {
                page.truncated = true;
            }
        });
        Ok(page)
    }

    fn count_flows(&self, filter: &FlowFilter) -> Result<FlowCount, InspectError> {
        let now = self.tables.clock.now().map_err(InspectError::new)?;
        let mut count = FlowCount::default();
        let mut phases: HashMap<Phase, u64> = HashMap::new();
        // Names are looked up once for each service, not for each of a million flows.
        let mut services: HashMap<u32, (String, u64)> = HashMap::new();
        let by_name = filter.service.is_some() || filter.backend.is_some();
        self.tables.for_each_flow(|entry| {
            if !entry.to_worker || filter.client.is_some_and(|client| client != entry.key.source.ip()) {
                return;
            }
            if by_name && !filter.admits(&self.flow(&entry, now)) {
                return;
            }
            count.total += 1;
            *phases.entry(entry.phase).or_default() += 1;
            services
                .entry(entry.service)
                .or_insert_with(|| (self.flow(&entry, now).service, 0))
                .1 += 1;
        });
        count.phases = phases
            .into_iter()
            .map(|(phase, flows)| (phase.name().to_owned(), flows))
            .collect();
        for (name, flows) in services.into_values() {
            *count.services.entry(name).or_default() += flows;
        }
        Ok(count)
    }
}

/// What a service of the configuration is known by in the maps.
pub(super) fn front(service: &config::Service) -> Front {
    (service.into(), service.ports.count() > 1)
}

/// The state of a backend as the packet path has it, and why.
fn state(entry: Option<&Backend>, backend: &config::Backend, health: Option<&Health>) -> (&'static str, String) {
    if let Some(health) = health.filter(|health| health.verdict == Verdict::Unknown) {
        return ("unknown", health.cause.clone());
    }
    let cause = match health {
        Some(health) => health.cause.clone(),
        None => "not checked".to_owned(),
    };
    match entry.map(|entry| entry.status.state()) {
        Some(BackendState::Up) => ("up", cause),
        Some(BackendState::Draining) if backend.weight == 0 => ("draining", "weight 0".to_owned()),
        Some(BackendState::Draining) => ("draining", cause),
        Some(BackendState::Down) => ("down", cause),
        Some(BackendState::Free) | None => ("unknown", "not in the maps yet".to_owned()),
    }
}

fn health_status(health: &Health) -> HealthStatus {
    let verdict = match health.verdict {
        Verdict::Unknown => "unknown",
        Verdict::Up => "up",
        Verdict::Down => "down",
    };
    HealthStatus {
        verdict: verdict.to_owned(),
        since: timestamp(health.since),
        cause: health.cause.clone(),
        checks: health.checks,
        failures: health.failures,
        last_duration_ms: health.last_duration.map(milliseconds),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn next_hop(state: &NextHopState) -> Option<NextHopStatus> {
    let mac = state.hop?.destination().map(|byte| format!("{byte:02x}")).join(":");
    Some(NextHopStatus {
        interface: state.interface.clone(),
        mac,
    })
}
