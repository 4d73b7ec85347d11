//! Readiness: whether this balancer can serve the addresses that a virtual router would take. A
//! virtual router stays in Initialize until it can.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::BackendState;

use super::Controller;
use crate::{
    daemon::{ActiveConfig, map_entries::MapEntries},
    network::neighbour::NextHopState,
    vrrp::Addresses,
};
use lb_core::{
    config::{Backend, BackendId, Service},
    health::{Health, Verdict},
};

/// Longest wait for health checks of workers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for next hops. A link that was down forgets its neighbours.
const HOPS_PATIENCE: Duration = Duration::from_secs(2);
/// How often readiness is evaluated while a virtual router waits.
pub(super) const PERIOD: Duration = Duration::from_millis(200);

/// A readiness request, and what was known when it arrived.
#[derive(Debug)]
pub(in crate::daemon) struct Readiness {
    /// The addresses to serve.
    addresses: Addresses,
    begun: Instant,
    /// How many checks each backend had had.
    checks: HashMap<BackendId, u64>,
}

impl Controller {
    /// Answers the readiness requests of virtual routers that this balancer can serve now.
    pub(super) fn answer_readiness(&mut self) {
        let mut open = self.vrrp.readiness_requests().pending();
        self.readiness.retain(|question, _| open.remove(question).is_some());
        if self.readiness.is_empty() && open.is_empty() {
            return;
        }
        let (health, now) = (self.health.snapshot(), Instant::now());
        let new = open.into_iter();
        let new = new.map(|(question, addresses)| (question, Readiness::new(addresses, &health, now)));
        self.readiness.extend(new);
        let active = self.active.borrow().clone();
        let entries = MapEntries::read(&self.tables).ok();
        let hops = self.next_hops.borrow().clone();
        let is_ready =
            |(_, readiness): &(&u64, &Readiness)| readiness.is_ready(&active, &health, entries.as_ref(), &hops, now);
        let ready: Vec<_> = self
            .readiness
            .iter()
            .filter(is_ready)
            .map(|(question, _)| *question)
            .collect();
        for question in ready {
            self.readiness.remove(&question);
            self.vrrp.grant_readiness(question);
        }
    }
}

impl Readiness {
    /// A request that arrives now.
    pub(super) fn new(addresses: Addresses, health: &BTreeMap<BackendId, Health>, now: Instant) -> Self {
        Self {
            addresses,
            begun: now,
            checks: health.iter().map(|(id, health)| (id.clone(), health.checks)).collect(),
        }
    }

    /// Whether each service at the addresses can take connections, or [`PATIENCE`] is over. It can
    /// if it has backends that are up, and all of these have a next hop; or if it has none, and all
    /// backends were checked since the request. Otherwise a balancer that starts, or that was cut
    /// off, would refuse the clients whose addresses it takes.
    pub(super) fn is_ready(
        &self,
        active: &ActiveConfig,
        health: &BTreeMap<BackendId, Health>,
        entries: Option<&MapEntries>,
        next_hops: &BTreeMap<IpAddr, NextHopState>,
        now: Instant,
    ) -> bool {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed >= PATIENCE {
            return true;
        }
        let Some(entries) = entries else {
            return false;
        };
        let is_known = |service: &Service, backend: &Backend| {
            let id = BackendId {
                service: service.name.clone(),
                backend: backend.name.clone(),
            };
            let rise = active.targets.get(&id).map_or(1, |target| target.check.rules.rise);
            let known = self.checks.get(&id).copied().unwrap_or(0);
            health.get(&id).is_none_or(|health| is_settled(health, known, rise))
        };
        let is_up = |service: &Service, backend: &Backend| {
            let entry = entries.find(service, backend.address);
            entry.is_some_and(|(_, entry)| entry.status.state() == BackendState::Up)
        };
        let has_hop = |backend: &Backend| {
            let state = next_hops.get(&backend.address.ip());
            elapsed >= HOPS_PATIENCE || state.is_some_and(|state| state.hop.is_some())
        };
        let services = active.config().services.iter();
        let mut wanted = services.filter(|service| self.addresses.contains(&service.address));
        wanted.all(|service| {
            let mut up = service
                .backends
                .iter()
                .filter(|backend| is_up(service, backend))
                .peekable();
            match up.peek() {
                Some(_) => up.all(has_hop),
                None => service.backends.iter().all(|backend| is_known(service, backend)),
            }
        })
    }
}

/// Whether the checks since the request decided the state of a backend. `known` is the number of
/// checks before it. A backend that is down is decided if it had enough checks to come up, and no
/// successful one among the last.
fn is_settled(health: &Health, known: u64, rise: u32) -> bool {
    let since = health.checks.saturating_sub(known);
    match health.verdict {
        Verdict::Unknown => false,
        Verdict::Up => since > 0,
        Verdict::Down => since >= rise.into() && health.progress.is_none(),
    }
}
