//! Answers what the admin API asks, from the maps as they are.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use lb_common::{Backend, BackendCounters, BackendLoad, BackendState, Phase, abi::MAP_ABI_VERSION};
use tokio::sync::watch;

use super::{InForce, conditions::Conditions, entries::Entries, naming::Namer};
use crate::{
    admin::{ControlError, Inspect, InspectError, nothing_named},
    api::{
        BackendStatus, FlowCount, FlowFilter, FlowPage, FlowTable, FlowTables, HealthStatus, InterfaceStatus,
        NextHopStatus, NodeStatus, OverrideStatus, ReconcileStatus, ServiceStatus, TrackStatus, VrrpStatus, timestamp,
    },
    dataplane::{
        DataplaneError, Tables,
        explain::{self, Explanation, Question},
    },
    health::Monitor,
    network::neighbour::{NextHopState, NextHops},
    system::wall_clock,
    vrrp,
};
use lb_core::{
    config::BackendId,
    health::{Health, Verdict},
};
use lb_core::{
    config::{self, Word},
    overrides::{Intent, Override},
    reconcile::Condition,
    text::duration,
};

/// What the answers are made of.
pub(super) struct Inspector {
    pub(super) in_force: watch::Receiver<Arc<InForce>>,
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

/// What the status of a backend is made of, besides the maps.
struct Sight<'a> {
    service: &'a config::Service,
    entries: &'a Entries,
    now: Timestamp,
}

impl Inspector {
    /// What is in force now.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Names flows by what is in force now.
    pub(super) fn namer(&self) -> Namer {
        Namer::new(self.in_force())
    }

    /// Which backend a packet would get or has.
    pub(super) fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        let found =
            explain::explain(&self.tables, question).map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(self.namer().explanation(question, found))
    }

    /// Refuses a filter by names that are not there. Flows can outlive the configuration of their backend, so an address
    /// need not be known.
    pub(super) fn is_known(&self, filter: &FlowFilter) -> Result<(), ControlError> {
        let in_force = self.in_force();
        let services = &in_force.config().services;
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
        sight: &Sight<'_>,
        backend: &config::Backend,
        health: Option<&Health>,
        own: Option<&Override>,
    ) -> Result<BackendStatus, DataplaneError> {
        let Sight { service, entries, now } = *sight;
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
                state(entry.map(|(_, backend)| backend), weight, health, panics)
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

    /// The backends of a service that a reload removed, for as long as their flows go on.
    fn leaving(&self, sight: &Sight<'_>, in_force: &InForce) -> Result<Vec<BackendStatus>, DataplaneError> {
        let leaving = in_force.overrides.leaving(sight.service);
        leaving
            .map(|leaving| {
                let backend = config::Backend {
                    name: leaving.backend.clone(),
                    address: leaving.address,
                    fallback: false,
                    weight: 0,
                    health: None,
                };
                let mut status = self.backend(sight, &backend, None, None)?;
                let goes_on = leaving.deadline > sight.now;
                status.state = if goes_on { "draining" } else { "down" }.to_owned();
                status.cause = if goes_on {
                    let left = left(leaving.deadline, sight.now);
                    format!("removed from the configuration; its flows may go on for {left}")
                } else {
                    "removed from the configuration; the time for its flows is over".to_owned()
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

    /// How many services there are of each condition.
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
        let in_force = self.in_force();
        let interfaces = self.interfaces.borrow().clone();
        let problems = interfaces.iter().filter_map(|interface| interface.problem.clone());
        let warnings = in_force
            .warnings
            .iter()
            .cloned()
            .chain(in_force.config().warnings())
            .chain(problems)
            .collect();
        Ok(NodeStatus {
            name: in_force.config().node.name.clone(),
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
        let in_force = self.in_force();
        let services = in_force.config().services.iter();
        let none = Vec::new();
        Ok(services
            .map(|service| self.service_status(service, of.get(&service.name).unwrap_or(&none)))
            .collect())
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, InspectError> {
        let in_force = self.in_force();
        let service = in_force.config().services.iter().find(|service| service.name == name);
        service
            .map(|service| Ok(self.service_status(service, &self.backends(Some(name))?)))
            .transpose()
    }

    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError> {
        let entries = Entries::read(&self.tables).map_err(InspectError::new)?;
        let health = self.health.snapshot();
        let in_force = self.in_force();
        let now = wall_clock::now();
        let mut found = Vec::new();
        for known in in_force
            .config()
            .services
            .iter()
            .filter(|known| service.is_none_or(|name| name == known.name))
        {
            let sight = Sight {
                service: known,
                entries: &entries,
                now,
            };
            for backend in &known.backends {
                let id = BackendId {
                    service: known.name.clone(),
                    backend: backend.name.clone(),
                };
                let own = in_force.overrides.of(&id);
                found.push(
                    self.backend(&sight, backend, health.get(&id), own)
                        .map_err(InspectError::new)?,
                );
            }
            found.extend(self.leaving(&sight, &in_force).map_err(InspectError::new)?);
        }
        Ok(found)
    }

    fn vrrp(&self) -> Result<Vec<VrrpStatus>, InspectError> {
        let known = self.vrrp.status();
        let in_force = self.in_force();
        let configured = in_force.config().vrrp.iter();
        Ok(configured
            .filter_map(|config| {
                let status = known.iter().find(|status| status.name == config.name)?;
                Some(vrrp_status(config, status))
            })
            .collect())
    }

    fn flows(&self, filter: &FlowFilter, after: u64, limit: usize) -> Result<FlowPage, InspectError> {
        let now = self.tables.clock.now().map_err(InspectError::new)?;
        let namer = self.namer();
        let mut page = FlowPage::default();
        let _ = self.tables.walk_flows(after, |place, entry| {
            if !entry.to_worker || !entry.is_current {
                return ControlFlow::Continue(());
            }
            let flow = namer.flow(&self.tables, &entry, now);
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
        let namer = self.namer();
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
            if by_name && !filter.admits(&namer.flow(&self.tables, &entry, now)) {
                return;
            }
            count.total += 1;
            *phases.entry(entry.phase).or_default() += 1;
            services
                .entry(entry.service)
                .or_insert_with(|| (namer.flow(&self.tables, &entry, now).service, 0))
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

/// The state of a backend as the packet path has it, and why.
fn state(entry: Option<&Backend>, weight: u32, health: Option<&Health>, panics: bool) -> (&'static str, String) {
    let verdict = health.map(|health| health.verdict);
    let cause = health.map_or_else(|| "not checked".to_owned(), cause);
    match entry.map(|entry| entry.status.state()) {
        Some(BackendState::Up) if verdict == Some(Verdict::Down) && panics => (
            "up",
            format!("it is used because too few backends are well (`panic_threshold`); {cause}"),
        ),
        Some(BackendState::Up) => ("up", cause),
        Some(BackendState::Draining) if weight == 0 => ("draining", "weight 0".to_owned()),
        Some(BackendState::Draining) if verdict == Some(Verdict::Unknown) => ("unknown", cause),
        Some(BackendState::Draining) => ("draining", cause),
        Some(BackendState::Down) => ("down", cause),
        Some(BackendState::Free) | None => ("unknown", "not in the maps yet".to_owned()),
    }
}

/// What decided about a backend, and what is wrong with it by now where that is something else.
fn cause(health: &Health) -> String {
    match &health.last_failure {
        Some(failure) if health.verdict == Verdict::Down && !health.cause.contains(failure.as_str()) => {
            format!("{}; now: {failure}", health.cause)
        }
        _ => health.cause.clone(),
    }
}

fn is_down(health: Option<&Health>) -> bool {
    health.is_some_and(|health| health.verdict == Verdict::Down)
}

/// The state of a backend that an operator decided about, and why.
fn overridden(intent: Intent, now: Timestamp) -> (&'static str, String) {
    match intent {
        Intent::Disable { .. } => ("down", "disabled by an operator".to_owned()),
        Intent::Drain { deadline: None, .. } => ("draining", "drained by an operator".to_owned()),
        Intent::Drain {
            deadline: Some(deadline),
            ..
        } if deadline > now => (
            "draining",
            format!(
                "drained by an operator; its flows may go on for {}",
                left(deadline, now)
            ),
        ),
        Intent::Drain { .. } => ("down", "drained by an operator; the deadline is over".to_owned()),
    }
}

/// The time until a moment, in whole seconds, for people.
fn left(until: Timestamp, now: Timestamp) -> String {
    let seconds = until.duration_since(now).as_secs().max(0).unsigned_abs();
    duration(Duration::from_secs(seconds))
}

fn override_status(own: &Override, now: Timestamp) -> OverrideStatus {
    let (intent, since, deadline) = match own.intent {
        None => (None, None, None),
        Some(Intent::Drain { since, deadline }) => (Some("drain"), Some(since), deadline),
        Some(Intent::Disable { since }) => (Some("disable"), Some(since), None),
    };
    let text = |moment: Timestamp| timestamp(moment.into());
    OverrideStatus {
        intent: intent.map(str::to_owned),
        since: since.map(text),
        deadline: deadline.map(text),
        seconds_left: deadline.map(|deadline| deadline.duration_since(now).as_secs().max(0).unsigned_abs()),
        weight: own.weight,
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
        suspect: health.suspicion.clone(),
        progress: health.progress.clone(),
        last_failure: health.last_failure.clone(),
        checks: health.checks,
        failures: health.failures,
        last_duration_ms: health.last_duration.map(milliseconds),
    }
}

fn vrrp_status(config: &config::Vrrp, status: &vrrp::Status) -> VrrpStatus {
    let word = |reason: &lb_core::vrrp::advert::Refused| {
        let known = lb_core::vrrp::advert::Refused::ALL
            .iter()
            .find(|(known, _)| known == reason);
        known.map_or_else(String::new, |(_, word)| (*word).to_owned())
    };
    VrrpStatus {
        name: config.name.clone(),
        interface: config.interface.clone(),
        router_id: config.router,
        version: config.version,
        addresses: config.addresses.iter().map(ToString::to_string).collect(),
        role: status.role.word().to_owned(),
        since: timestamp(status.since),
        cause: status.cause.clone(),
        group: config.group.clone(),
        priority: config.priority,
        effective_priority: status.priority,
        maintained: status.is_maintained,
        interval_ms: u64::try_from(config.interval.as_millis()).unwrap_or(u64::MAX),
        master: status.master.map(|(master, _)| master),
        master_priority: status.master.map(|(_, priority)| priority),
        graced: status.is_in_grace,
        asked: status.echoes_sent,
        answered: status.echo_replies,
        tracks: status
            .tracks
            .iter()
            .map(|track| TrackStatus {
                what: track.what.clone(),
                up: track.down.is_none(),
                cause: track.down.clone(),
                weight: track.weight,
            })
            .collect(),
        sent: status.sent,
        received: status.received,
        refused: status
            .refused
            .iter()
            .map(|(reason, count)| (word(reason), *count))
            .collect(),
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
