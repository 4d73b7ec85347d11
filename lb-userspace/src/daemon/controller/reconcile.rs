//! Reconciliation: desired state, observed maps, plan, apply, and the report of the result.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Instant, SystemTime},
};

use jiff::Timestamp;
use lb_common::NextHop;

use super::{Conditions, Controller, conditions, targets::Verdicts};
use crate::{
    api::timestamp,
    events::{Happening, Kind},
    network::neighbour::{NextHopState, RESOLVING},
    system::wall_clock,
};
use lb_core::{
    config::{BackendId, Config, Service},
    health::Verdict,
    overrides::{AdminState, Overrides},
    reconcile::{self, Condition},
    vrrp::{ServiceHealth, Services},
};

impl Controller {
    /// The desired state for a configuration and overrides.
    pub(super) fn desired(&self, config: &Config, overrides: &Overrides, now: Timestamp) -> reconcile::Desired {
        self.with_known(config, overrides, now, |known| reconcile::desired(config, known))
    }

    /// Calls `work` with what is known now.
    fn with_known<T>(
        &self,
        config: &Config,
        overrides: &Overrides,
        now: Timestamp,
        work: impl FnOnce(reconcile::Known<'_>) -> T,
    ) -> T {
        let verdicts: Verdicts = self
            .health
            .snapshot()
            .into_iter()
            .map(|(target, health)| (target, health.verdict))
            .collect();
        let hops = resolved(&self.next_hops.borrow());
        let returned = self.slow_starts.elapsed(config, Instant::now());
        work(reconcile::Known {
            overrides,
            now,
            verdicts: &verdicts,
            returned: &returned,
            next_hops: &hops,
        })
    }

    /// Reconciles once.
    pub(in crate::daemon) fn reconcile(&mut self) {
        self.reconcile_at(wall_clock::now());
    }

    pub(super) fn reconcile_at(&mut self, now: Timestamp) {
        let active = self.active.borrow().clone();
        self.next_hops.mark_unchanged();
        self.update_routes();
        self.slow_starts.forget_finished(active.config(), Instant::now());
        let config = active.config();
        let (desired, conditions, services) = self.with_known(config, &active.overrides, now, |known| {
            let desired = reconcile::desired(config, known);
            let conditions = reconcile::conditions(config, &desired, known);
            let services = service_health(config, known, &conditions);
            (desired, conditions, services)
        });
        self.publish(conditions, services);
        let result = reconcile::observe(&self.tables)
            .map_err(|error| error.to_string())
            .and_then(|observed| {
                let plan = reconcile::plan_with(&desired, &observed, &mut self.ring_cache);
                reconcile::apply(&plan, &mut self.tables).map_err(|error| error.to_string())?;
                Ok(plan)
            });
        self.report(result);
        self.answer_readiness();
    }

    /// Publishes the conditions and the health of services, with the events of what changed.
    fn publish(&self, conditions: Conditions, services: Services) {
        let mut changes = Vec::new();
        self.conditions
            .send_modify(|before| changes = conditions::update(before, conditions));
        for change in changes {
            self.events.record(change);
        }
        self.services.send_if_modified(|before| {
            let is_new = *before != services;
            *before = services;
            is_new
        });
    }

    fn report(&self, result: Result<reconcile::Plan, String>) {
        let before = self.reconciled.borrow().last_error.clone();
        let (steps, error) = match result {
            Ok(plan) if plan.problems.is_empty() => (plan.steps.len(), None),
            Ok(plan) => (plan.steps.len(), Some(plan.problems.join("; "))),
            Err(error) => (0, Some(error)),
        };
        match &error {
            // Recorded once, not at every attempt.
            Some(error) if before.as_ref() != Some(error) => {
                self.events.record(Happening::new(Kind::ReconcileFailed, error));
            }
            None if before.is_some() => self.events.record(Happening::new(Kind::ReconcileRecovered, "")),
            _ => {}
        }
        if steps > 0 {
            tracing::debug!(steps, "reconciled the maps");
        }
        self.reconciled.send_modify(|status| {
            status.runs += 1;
            status.last_error = error;
            if steps > 0 {
                status.last_change = Some(timestamp(SystemTime::now()));
            }
        });
    }
}

/// The health of each service, for virtual routers that track it: how many backends can take
/// packets, and whether the service refuses clients because all of them are down. Backends that
/// operators took out do not count.
fn service_health(config: &Config, known: reconcile::Known<'_>, conditions: &Conditions) -> Services {
    let health = |service: &Service| {
        let (mut up, mut down) = (0, 0);
        for backend in service.backends.iter().filter(|backend| !backend.fallback) {
            let id = BackendId {
                service: service.name.clone(),
                backend: backend.name.clone(),
            };
            let takes = known.overrides.admin_state(&id, known.now) == AdminState::Enabled
                && known.overrides.weight(&id, backend.weight) > 0;
            match known.verdicts.get(&id) {
                _ if !takes => {}
                Some(Verdict::Down) => down += 1,
                _ => up += 1,
            }
        }
        let refuses = down > 0 && conditions.get(&service.name) == Some(&Condition::NoBackend);
        let health = ServiceHealth {
            up,
            refuses_at: refuses.then_some(service.address),
        };
        (service.name.clone(), health)
    };
    config.services.iter().map(health).collect()
}

/// The next hops that are known, and zero where it is known that there is none. Addresses that are
/// still being resolved are left out: for these the maps keep their entry, which after a restart is
/// the better information.
fn resolved(states: &BTreeMap<IpAddr, NextHopState>) -> BTreeMap<IpAddr, NextHop> {
    states
        .iter()
        .filter(|(_, state)| state.hop.is_some() || state.reason != RESOLVING)
        .map(|(address, state)| (*address, state.hop.unwrap_or(NextHop::ZERO)))
        .collect()
}
