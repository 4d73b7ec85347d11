//! The loop that brings the maps to the desired state whenever something changed, and now and then without cause.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use lb_common::NextHop;
use tokio::sync::{mpsc, watch};

use super::{Verdicts, returned::Returned};
use crate::{
    admin::model::ReconcileStatus,
    config::Config,
    dataplane::Tables,
    health::{Change, Monitor, Target, TargetId, Verdict},
    neighbour::{Neighbours, NextHopState, RESOLVING},
    reconcile,
    schedule::KnownRings,
};

/// How often the maps are compared without cause.
const PERIOD: Duration = Duration::from_secs(5);
/// How often the shares of backends that slowly start are renewed.
const RAMP_STEP: Duration = Duration::from_secs(1);

/// What the loop works with.
pub(super) struct Controller {
    pub(super) config: Arc<Config>,
    pub(super) tables: Tables,
    pub(super) known_rings: KnownRings,
    pub(super) health: Arc<Monitor>,
    pub(super) neighbours: Neighbours,
    pub(super) next_hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    pub(super) health_changes: mpsc::UnboundedReceiver<Change>,
    pub(super) returned: Returned,
    pub(super) reconciled: watch::Sender<ReconcileStatus>,
}

impl Controller {
    /// Tells health checks and neighbour resolution what to look at.
    pub(super) fn aim(&self) {
        let mut targets = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for service in &self.config.services {
            for backend in &service.backends {
                addresses.insert(backend.address.ip());
                let Some(check) = &service.health else { continue };
                let port = check.port.unwrap_or(backend.address.port());
                let id = TargetId {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                let address = SocketAddr::new(backend.address.ip(), port);
                targets.insert(
                    id,
                    Target {
                        address,
                        check: check.clone(),
                    },
                );
            }
        }
        self.health.set_targets(targets);
        self.neighbours.set_targets(addresses);
    }

    /// Works until `end` is there; returns what it gave.
    pub(super) async fn run_until<T>(mut self, end: impl Future<Output = T>) -> T {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(end);
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                _ = period.tick() => {}
                () = tokio::time::sleep(RAMP_STEP), if self.returned.any() => {}
                Some(change) = self.health_changes.recv() => self.note(&change),
                Ok(()) = self.next_hops.changed() => {}
            }
            // What came meanwhile goes into the same change.
            while let Ok(change) = self.health_changes.try_recv() {
                self.note(&change);
            }
            tokio::task::block_in_place(|| self.reconcile());
        }
    }

    /// Brings the maps to the desired state once.
    pub(super) fn reconcile(&mut self) {
        let verdicts: Verdicts = self
            .health
            .snapshot()
            .into_iter()
            .map(|(target, health)| (target, health.verdict))
            .collect();
        let hops = resolved(&self.next_hops.borrow_and_update());
        let returned = self.returned.elapsed(&self.config, Instant::now());
        let known = reconcile::Known {
            verdicts: &verdicts,
            returned: &returned,
            next_hops: &hops,
        };
        let desired = reconcile::desired(&self.config, known);
        let result = reconcile::observe(&self.tables)
            .map_err(|error| error.to_string())
            .and_then(|observed| {
                let plan = reconcile::plan_with(&desired, &observed, &mut self.known_rings);
                reconcile::apply(&plan, &mut self.tables).map_err(|error| error.to_string())?;
                Ok(plan)
            });
        self.report(result);
    }

    fn report(&self, result: Result<reconcile::Plan, String>) {
        let before = self.reconciled.borrow().last_error.clone();
        let (steps, error) = match result {
            Ok(plan) if plan.problems.is_empty() => (plan.steps.len(), None),
            Ok(plan) => (plan.steps.len(), Some(plan.problems.join("; "))),
            Err(error) => (0, Some(error)),
        };
        match &error {
            // Once, not every five seconds.
            Some(error) if before.as_ref() != Some(error) => {
                tracing::error!(%error, "the maps are not as they should be")
            }
            None if before.is_some() => tracing::info!("the maps are as they should be again"),
            _ => {}
        }
        if steps > 0 {
            tracing::debug!(steps, "brought the maps to the desired state");
        }
        self.reconciled.send_modify(|status| {
            status.runs += 1;
            status.last_error = error;
            if steps > 0 {
                status.last_change = Some(crate::admin::model::timestamp(SystemTime::now()));
            }
        });
    }

    fn note(&mut self, change: &Change) {
        self.returned.note(change, Instant::now());
        self.log(change);
    }

    fn log(&self, change: &Change) {
        let TargetId { service, backend } = &change.target;
        match change.to {
            Verdict::Up => tracing::info!(service, backend, cause = change.cause, "backend is up"),
            Verdict::Down => tracing::warn!(service, backend, cause = change.cause, "backend is down"),
            Verdict::Unknown => tracing::info!(service, backend, cause = change.cause, "backend is not checked yet"),
        }
    }
}

/// The next hops that are known, and zero where it is known that there is none. Of those that are still being asked for,
/// the maps keep what they have: after a restart they know more.
fn resolved(states: &BTreeMap<IpAddr, NextHopState>) -> BTreeMap<IpAddr, NextHop> {
    states
        .iter()
        .filter(|(_, state)| state.hop.is_some() || state.reason != RESOLVING)
        .map(|(address, state)| (*address, state.hop.unwrap_or(NextHop::ZERO)))
        .collect()
}
