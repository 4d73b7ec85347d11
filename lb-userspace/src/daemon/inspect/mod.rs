//! Answers the read requests of the admin API, from the maps and the state of the parts.

mod names;
mod status;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;
use lb_common::{BackendCounters, BackendLoad, Phase, abi::MAP_ABI_VERSION};
use tokio::sync::watch;

use super::{ActiveConfig, controller::Conditions, map_entries::MapEntries};
use crate::{
    admin::{ControlError, Inspect, InspectError, nothing_named},
    api::{
        BackendStatus, FlowCount, FlowFilter, FlowPage, FlowTable, FlowTables, InterfaceStatus, NodeStatus,
        ReconcileStatus, ServiceStatus, VrrpStatus, timestamp,
    },
    dataplane::{
        DataplaneError, Tables,
        explain::{self, Explanation, Question},
    },
    health::Monitor,
    network::neighbour::NextHops,
    system::wall_clock,
    vrrp,
};
use lb_core::{
    config::{self, BackendId, Word},
    health::Health,
    overrides::Override,
    reconcile::Condition,
};
use names::Names;
use status::{
    backend_state, health_status, is_down, next_hop_status, overridden, override_status, time_left, vrrp_status,
};

/// Answers read requests.
pub(super) struct Inspector {
    pub(super) active: watch::Receiver<Arc<ActiveConfig>>,
    pub(super) config_path: PathBuf,
    pub(super) tables: Tables,
    pub(super) health: Arc<Monitor>,
    pub(super) next_hops: watch::Receiver<NextHops>,
    pub(super) reconcile: watch::Receiver<ReconcileStatus>,
    pub(super) conditions: watch::Receiver<Conditions>,
    pub(super) interfaces: watch::Receiver<Vec<InterfaceStatus>>,
    pub(super) vrrp: Arc<vrrp::Instances>,
    pub(super) started: SystemTime,
}

/// What the status of a backend is made from, besides the maps.
struct BackendContext<'a> {
    service: &'a config::Service,
    entries: &'a MapEntries,
    now: Timestamp,
}

impl Inspector {
    /// The active configuration.
    pub(super) fn active(&self) -> Arc<ActiveConfig> {
        Arc::clone(&self.active.borrow())
    }

    /// The names of the active configuration.
    pub(super) fn names(&self) -> Names {
        Names::new(self.active())
    }

    /// Which backend a packet would get, or which one its flow has.
    pub(super) fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        let found =
            explain::explain(&self.tables, question).map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(self.names().explanation(question, found))
    }

    /// Refuses a filter with unknown names. A backend can also be given by its address, which need
    /// not be known: flows can outlive the configuration of their backend.
    pub(super) fn is_known(&self, filter: &FlowFilter) -> Result<(), ControlError> {
        let active = self.active();
        let services = &active.config().services;
        let backends = || services.iter().flat_map(|service| &service.backends);
        if let Some(name) = &filter.service
            && services.iter().all(|service| service.name != *name)
        {
            let names = services.iter().map(|service| service.name.as_str());
            return Err(ControlError::NotFound(nothing_named("service", name, names)));
        }
        if let Some(name) = &filter.backend
            && name.parse::<SocketAddr>().is_err()
            && backends().all(|backend| backend.name != *name)
        {
            let names = backends().map(|backend| backend.name.as_str());
            return Err(ControlError::NotFound(nothing_named("backend", name, names)));
        }
        Ok(())
    }

    fn backend(
        &self,
        context: &BackendContext<'_>,
        backend: &config::Backend,
        health: Option<&Health>,
        own: Option<&Override>,
    ) -> Result<BackendStatus, DataplaneError> {
        let BackendContext { service, entries, now } = *context;
        let entry = entries.find(service, backend.address);
        let (load, counters) = match entry {
            Some((index, _)) => (
                self.tables.loads.read(*index).unwrap_or(BackendLoad::ZERO),
                self.tables.backend_counters(*index)?,
            ),
            None => (BackendLoad::ZERO, BackendCounters::ZERO),
        };
        let weight = own.and_then(|own| own.weight).unwrap_or(backend.weight);
        let (state, cause) = match own.and_then(|own| own.intent) {
            Some(intent) if !is_down(health) => overridden(intent, now),
            _ => {
                let panics = self.conditions.borrow().get(&service.name) == Some(&Condition::Panic);
                backend_state(entry.map(|(_, backend)| backend), weight, health, panics)
            }
        };
        let hop = self.next_hops.borrow().get(&backend.address.ip()).cloned();
        Ok(BackendStatus {
            service: service.name.clone(),
            name: backend.name.clone(),
            address: backend.address,
            weight,
            configured_weight: backend.weight,
            fallback: backend.fallback,
            state: state.to_owned(),
            cause,
            overridden: own.map(|own| override_status(own, now)),
            health: health.map(health_status),
            next_hop: hop.as_ref().and_then(next_hop_status),
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

    /// The backends of a service that a reload removed, until their flows have ended.
    fn leaving(
        &self,
        context: &BackendContext<'_>,
        active: &ActiveConfig,
    ) -> Result<Vec<BackendStatus>, DataplaneError> {
        let leaving = active.overrides.leaving(context.service);
        leaving
            .map(|leaving| {
                let backend = config::Backend {
                    name: leaving.backend.clone(),
                    address: leaving.address,
                    fallback: false,
                    weight: 0,
                    health: None,
                };
                let mut status = self.backend(context, &backend, None, None)?;
                let has_time = leaving.deadline > context.now;
                status.state = if has_time { "draining" } else { "down" }.to_owned();
                status.cause = if has_time {
                    let left = time_left(leaving.deadline, context.now);
                    format!("removed from the configuration; its flows are kept for {left}")
                } else {
                    "removed from the configuration; the deadline has passed".to_owned()
                };
                Ok(status)
            })
            .collect()
    }

    fn service_status(&self, service: &config::Service, backends: &[BackendStatus]) -> ServiceStatus {
        let condition = self.conditions.borrow().get(&service.name).copied().unwrap_or_default();
        let sum = |number: fn(&BackendStatus) -> u64| backends.iter().map(number).sum();
        let (backends_up, backends_total) = ServiceStatus::count(backends);
        ServiceStatus {
            name: service.name.clone(),
            address: service.address,
            port: service.ports.low,
            last_port: service.ports.high,
            protocol: service.protocol.name().to_owned(),
            mode: service.mode.word().to_owned(),
            scheduler: service.scheduler.word().to_owned(),
            on_backend_down: service.on_backend_down.word().to_owned(),
            condition: condition.word().to_owned(),
            backends_up,
            backends_total,
            active: sum(|backend| backend.active),
            embryonic: sum(|backend| backend.embryonic),
            total: sum(|backend| backend.total),
        }
    }

    /// The number of services in each condition.
    fn count_services(&self) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        for condition in self.conditions.borrow().values() {
            *counted.entry(condition.word().to_owned()).or_default() += 1;
        }
        counted
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
        let active = self.active();
        let interfaces = self.interfaces.borrow().clone();
        let problems = interfaces.iter().filter_map(|interface| interface.problem.clone());
        let warnings = active
            .warnings
            .iter()
            .cloned()
            .chain(active.config().warnings())
            .chain(problems)
            .collect();
        Ok(NodeStatus {
            name: active.config().node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: timestamp(self.started),
            uptime_seconds: self.started.elapsed().unwrap_or_default().as_secs(),
            config_path: self.config_path.clone(),
            map_abi: MAP_ABI_VERSION,
            interfaces,
            services: self.count_services(),
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
        let mut of: HashMap<String, Vec<BackendStatus>> = HashMap::new();
        for backend in self.backends(None)? {
            of.entry(backend.service.clone()).or_default().push(backend);
        }
        let active = self.active();
        let services = active.config().services.iter();
        let none = Vec::new();
        Ok(services
            .map(|service| self.service_status(service, of.get(&service.name).unwrap_or(&none)))
            .collect())
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, InspectError> {
        let active = self.active();
        let service = active.config().services.iter().find(|service| service.name == name);
        service
            .map(|service| Ok(self.service_status(service, &self.backends(Some(name))?)))
            .transpose()
    }

    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError> {
        let entries = MapEntries::read(&self.tables).map_err(InspectError::new)?;
        let health = self.health.snapshot();
        let active = self.active();
        let now = wall_clock::now();
        let mut found = Vec::new();
        for known in active
            .config()
            .services
            .iter()
            .filter(|known| service.is_none_or(|name| name == known.name))
        {
            let context = BackendContext {
                service: known,
                entries: &entries,
                now,
            };
            for backend in &known.backends {
                let id = BackendId {
                    service: known.name.clone(),
                    backend: backend.name.clone(),
                };
                let own = active.overrides.of(&id);
                found.push(
                    self.backend(&context, backend, health.get(&id), own)
                        .map_err(InspectError::new)?,
                );
            }
            found.extend(self.leaving(&context, &active).map_err(InspectError::new)?);
        }
        Ok(found)
    }

    fn vrrp(&self) -> Result<Vec<VrrpStatus>, InspectError> {
        let known = self.vrrp.status();
        let active = self.active();
        let configured = active.config().vrrp.iter();
        Ok(configured
            .filter_map(|config| {
                let status = known.iter().find(|status| status.name == config.name)?;
                Some(vrrp_status(config, status))
            })
            .collect())
    }

    fn flows(&self, filter: &FlowFilter, after: u64, limit: usize) -> Result<FlowPage, InspectError> {
        let now = self.tables.clock.now().map_err(InspectError::new)?;
        let names = self.names();
        let mut page = FlowPage::default();
        let _ = self.tables.walk_flows(after, |place, entry| {
            if !entry.to_worker || !entry.is_current {
                return ControlFlow::Continue(());
            }
            let flow = names.flow(&self.tables, &entry, now);
            if !filter.admits(&flow) {
                return ControlFlow::Continue(());
            }
            if page.flows.len() == limit {
                page.cursor = Some(place.to_string());
                return ControlFlow::Break(());
            }
            page.flows.push(flow);
            ControlFlow::Continue(())
        });
        Ok(page)
    }

    fn count_flows(&self, filter: &FlowFilter) -> Result<FlowCount, InspectError> {
        let now = self.tables.clock.now().map_err(InspectError::new)?;
        let names = self.names();
        let mut count = FlowCount::default();
        let mut phases: HashMap<Phase, u64> = HashMap::new();
        // Names are looked up once for each service, not for each of a million flows.
        let mut services: HashMap<u32, (String, u64)> = HashMap::new();
        let by_name = filter.service.is_some() || filter.backend.is_some();
        self.tables.for_each_flow(|entry| {
            if !entry.to_worker
                || !entry.is_current
                || filter.client.is_some_and(|client| client != entry.key.source.ip())
            {
                return;
            }
            if by_name && !filter.admits(&names.flow(&self.tables, &entry, now)) {
                return;
            }
            count.total += 1;
            *phases.entry(entry.phase).or_default() += 1;
            services
                .entry(entry.service)
                .or_insert_with(|| (names.flow(&self.tables, &entry, now).service, 0))
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
