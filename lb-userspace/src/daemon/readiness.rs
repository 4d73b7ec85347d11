//! Whether this balancer can serve the addresses that it would take: what virtual routers wait for before they take part.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::BackendState;

use super::{InForce, entries::Entries};
use crate::{network::neighbour::NextHopState, vrrp::Addresses};
use lb_core::config::{Backend, Service};
use lb_core::{
    config::BackendId,
    health::{Health, Verdict},
};

/// For how long at most virtual routers take no part because workers were not checked yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long at most they take no part because workers have no next hop: a link that was down forgets its neighbours.
const HOPS_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at while somebody waits.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// A question, and what was known when it came.
#[derive(Debug)]
pub(super) struct Readiness {
    /// What is asked about.
    addresses: Addresses,
    begun: Instant,
    /// How often each backend had been checked.
    checks: HashMap<BackendId, u64>,
}

impl Readiness {
    /// The question comes now.
    pub(super) fn new(addresses: Addresses, health: &BTreeMap<BackendId, Health>, now: Instant) -> Self {
        Self {
            addresses,
            begun: now,
            checks: health.iter().map(|(id, health)| (id.clone(), health.checks)).collect(),
        }
    }

    /// Whether each service at the addresses has backends that take packets, all with their next hops, or has none although all
    /// were checked. A balancer that begins, or
    /// that was cut off, would refuse the clients whose addresses it takes. It does not wait for ever.
    pub(super) fn is_there(
        &self,
        in_force: &InForce,
        health: &BTreeMap<BackendId, Health>,
        entries: Option<&Entries>,
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
            let rise = in_force.targets.get(&id).map_or(1, |target| target.check.rules.rise);
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
        let services = in_force.config().services.iter();
        let mut asked = services.filter(|service| self.addresses.contains(&service.address));
        asked.all(|service| {
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

/// Whether checks since then, when there had been so many, have told how a backend is: one that is down could have come up, and
/// is not about to.
fn is_settled(health: &Health, known: u64, rise: u32) -> bool {
    let since = health.checks.saturating_sub(known);
    match health.verdict {
        Verdict::Unknown => false,
        Verdict::Up => since > 0,
        Verdict::Down => since >= rise.into() && health.progress.is_none(),
    }
}
