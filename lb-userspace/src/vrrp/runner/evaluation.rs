//! Evaluates what the virtual routers of a sync group depend on: interfaces, tracks, and whether
//! this balancer can serve.

use super::{Action, Micros, Role, Runner, VirtualRouter, lease};
use crate::vrrp::virtual_router::{Condition, HeardAdvert};
use lb_core::vrrp::{Inactive, Parameters};

/// Cause of the role initialize while a group that starts or returns is not ready to serve.
const WAITS: &str = "waiting for health checks";
/// A balancer that became master less than this ago may still hear the former master, in
/// microseconds.
const FORMER_MASTER_TIME: Micros = 1_000_000;
/// The least time between two yields because this balancer cannot serve, in microseconds. Services
/// without a worker on any balancer must not move addresses all the time.
const UNFIT_INTERVAL: Micros = 10_000_000;

impl Runner {
    /// Follows changed interfaces and addresses.
    pub(super) async fn refresh(&mut self) {
        let Some(snapshot) = self.interfaces.borrow().clone() else {
            return;
        };
        for index in 0..self.routers.len() {
            if let Some(cause) = self.routers[index].refresh(&snapshot).await {
                self.deactivate(index, Inactive::Fault, &cause).await;
                self.routers[index].close().await;
            }
        }
        self.reevaluate().await;
    }

    /// Follows changed tracks and readiness.
    pub(super) async fn reevaluate(&mut self) {
        let conditions: Vec<_> = self.routers.iter().map(VirtualRouter::condition).collect();
        if !conditions.contains(&Condition::Unknown) && self.routers.iter().all(VirtualRouter::holds_lease) {
            // The group serves already, whatever health checks say.
            self.readiness.cancel(&self.requests);
        }
        if self.readiness.has_started(&self.requests) {
            self.apply_faults(conditions).await;
        }
        let parameters = self.parameters();
        let actions = self.group.change(parameters, lease::now());
        self.act(actions).await;
    }

    /// Makes virtual routers inactive that have a fault or wait, and the others active.
    async fn apply_faults(&mut self, conditions: Vec<Condition>) {
        let is_faulty = conditions
            .iter()
            .any(|condition| matches!(condition, Condition::Fault(_)));
        if is_faulty {
            self.readiness.suspend(&self.requests);
        }
        let waits = !is_faulty && self.readiness.is_waiting(&self.requests, &self.addresses);
        let are_known = !conditions.contains(&Condition::Unknown);
        let mut started = Vec::new();
        for (index, condition) in conditions.into_iter().enumerate() {
            match condition {
                Condition::Unknown => {}
                Condition::Fault(cause) => self.keep_inactive(index, Inactive::Fault, &cause).await,
                Condition::Ready if waits => self.keep_inactive(index, Inactive::Waiting, WAITS).await,
                // Until all are known, the whole group may still be master from before.
                Condition::Ready if are_known && !self.routers[index].is_ready => {
                    self.routers[index].is_ready = true;
                    started.push(index);
                    let holds_lease = self.routers[index].holds_lease();
                    let actions = self.group.ready(index, lease::now(), holds_lease);
                    self.act(actions).await;
                }
                Condition::Ready => {}
            }
        }
        for index in started {
            self.wait_for_others(index).await;
        }
    }

    /// Makes a virtual router inactive, unless it is so for that reason already.
    async fn keep_inactive(&mut self, index: usize, why: Inactive, cause: &str) {
        if !self.routers[index].reporter.is_reported(why.into(), cause) {
            self.deactivate(index, why, cause).await;
        }
    }

    /// Makes a virtual router inactive, and so its group.
    async fn deactivate(&mut self, index: usize, why: Inactive, cause: &str) {
        self.routers[index].is_ready = false;
        let actions = self.group.deactivate(index, why, cause);
        self.act(actions).await;
        // Even if it was inactive before: a killed controller may have left its addresses.
        let became = Action::Become(why.into(), cause.to_owned());
        self.routers[index].carry_out(became).await;
    }

    /// Reports that another virtual router keeps this one inactive, and removes addresses that a
    /// killed controller may have left.
    async fn wait_for_others(&mut self, index: usize) {
        if self.group.instance(index).role().is_inactive()
            && let Some(other) = self.group.waits_for()
        {
            let cause = format!("{other} of the sync group is not active");
            self.routers[index].carry_out(Action::Become(Role::Fault, cause)).await;
        }
    }

    /// The parameters of the instances. The least priority in a group is that of all.
    fn parameters(&mut self) -> Vec<Parameters> {
        let least = self.routers.iter_mut().map(VirtualRouter::effective_priority).min();
        let parameters = self.routers.iter().map(|router| Parameters {
            priority: least.unwrap_or(router.config.priority),
            ..router.config.parameters()
        });
        parameters.collect()
    }

    /// Yields to another master that is heard after a partition, if this balancer cannot serve: its
    /// health checks found workers down that it could not reach. The group is active again when
    /// health checks have new results.
    pub(super) async fn yield_if_unfit(&mut self, index: usize, heard: &HeardAdvert) {
        let is_recent = |last: Micros| heard.at < last + UNFIT_INTERVAL;
        let instance = self.group.instance(index);
        if self.yielded_unfit.is_some_and(is_recent)
            || instance.is_owner()
            || !instance.wins_against(heard.from, heard.own, &heard.advert)
            || !self.routers[index].reporter.is_master_for(FORMER_MASTER_TIME)
            || !self.requests.refuses_connections(&self.addresses)
        {
            return;
        }
        self.yielded_unfit = Some(heard.at);
        self.readiness.suspend(&self.requests);
        self.reevaluate().await;
    }
}
