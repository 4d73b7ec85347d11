//! The loop that brings the maps to the desired state whenever something changed, and now and then without cause; and that
//! carries out what operators ask for, one thing after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use lb_common::{BackendState, NextHop};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{
    InForce, Verdicts,
    commands::Command,
    conditions::{self, Conditions},
    entries::Entries,
    interfaces::Interfaces,
    readiness::{self, Readiness},
    returned::Returned,
};
use crate::{
    admin::RulesHandle,
    api::ReconcileStatus,
    dataplane::{Pins, Tables},
    events::{Events, Happening, Kind},
    health::Monitor,
    network::neighbour::{Neighbours, NextHopState, RESOLVING},
    system::wall_clock,
    vrrp,
};
use lb_core::{
    config::BackendId,
    health::{HealthChange, Verdict},
};
use lb_core::{
    config::{Config, Service},
    overrides::{AdminState, Overrides},
    reconcile::{self, Condition},
    schedule::RingCache,
};

/// How often the maps are compared without cause.
const PERIOD: Duration = Duration::from_secs(5);
/// How often the shares of backends that slowly start are renewed, and drains are looked at.
const STEP: Duration = Duration::from_secs(1);

/// What the loop works with.
pub(super) struct Controller {
    pub(super) config_path: PathBuf,
    pub(super) in_force: watch::Sender<Arc<InForce>>,
    pub(super) interfaces: Interfaces,
    pub(super) api_rules: Arc<RulesHandle>,
    pub(super) pins: Pins,
    pub(super) tables: Tables,
    pub(super) ring_cache: RingCache,
    pub(super) health: Arc<Monitor>,
    pub(super) neighbours: Neighbours,
    pub(super) next_hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    pub(super) health_changes: mpsc::UnboundedReceiver<HealthChange>,
    pub(super) vrrp: Arc<vrrp::Instances>,
    /// What virtual routers wait for.
    pub(super) readiness: BTreeMap<u64, Readiness>,
    /// What virtual routers may depend on.
    pub(super) services: watch::Sender<lb_core::vrrp::Services>,
    pub(super) returned: Returned,
    pub(super) reconciled: watch::Sender<ReconcileStatus>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// When the process began.
    pub(super) started: Timestamp,
    /// Who takes the new flows of each service.
    pub(super) conditions: watch::Sender<Conditions>,
    /// Whether overrides are in force that could not be saved.
    pub(super) is_unsaved: bool,
    pub(super) events: Events,
}

impl Controller {
    /// Tells health checks and neighbour resolution what to look at.
    pub(super) fn aim(&self) {
        let in_force = self.in_force.borrow();
        let leaving = in_force.overrides.all_leaving().iter();
        let mut addresses: BTreeSet<IpAddr> = leaving.map(|leaving| leaving.address.ip()).collect();
        for service in &in_force.config().services {
            for backend in &service.backends {
                addresses.insert(backend.address.ip());
            }
        }
        self.health
            .set_targets(&in_force.targets, &self.verdicts_of_maps(&in_force));
        self.neighbours.set_targets(addresses);
    }

    /// What the maps say of backends whose state there is that of their health: the verdict that a former controller, or
    /// another check, made.
    fn verdicts_of_maps(&self, in_force: &InForce) -> Verdicts {
        let Ok(entries) = Entries::read(&self.tables) else {
            return Verdicts::new();
        };
        let conditions = self.conditions.borrow();
        let mut found = Verdicts::new();
        for service in &in_force.config().services {
            // Then they are up whatever is thought of them.
            if conditions.get(&service.name) == Some(&Condition::Panic) {
                continue;
            }
            for backend in &service.backends {
                let id = BackendId {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                let is_overridden = in_force.overrides.of(&id).is_some_and(|own| own.intent.is_some());
                let state = entries
                    .find(service, backend.address)
                    .map(|(_, entry)| entry.status.state());
                match state.filter(|_| !is_overridden) {
                    Some(BackendState::Up) => found.insert(id, Verdict::Up),
                    Some(BackendState::Down) => found.insert(id, Verdict::Down),
                    Some(BackendState::Draining | BackendState::Free) | None => None,
                };
            }
        }
        found
    }

    /// Tells health checks which backends are behind which interfaces.
    fn learn_ways(&self) {
        let hops = self.next_hops.borrow();
        let ways = hops.iter().map(|(address, state)| (*address, state.interface.as_str()));
        self.health.link_flaps().set_routes(ways);
    }

    /// Works until `end` is there; returns what it gave.
    pub(super) async fn run_until<T>(&mut self, end: impl Future<Output = T>, mut hangup: Hangup) -> T {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut questions = self.vrrp.readiness_requests().subscribe();
        tokio::pin!(end);
        loop {
            let is_moving = self.returned.any() || self.is_draining();
            let deadline = self.until_deadline();
            tokio::select! {
                ended = &mut end => return ended,
                _ = period.tick() => {}
                () = tokio::time::sleep(STEP), if is_moving => {}
                () = tokio::time::sleep(deadline.unwrap_or(PERIOD)), if deadline.is_some() => {}
                Some(change) = self.health_changes.recv() => self.note(&change),
                Ok(()) = self.next_hops.changed() => {}
                Ok(()) = questions.changed() => {}
                () = tokio::time::sleep(readiness::LOOK), if !self.readiness.is_empty() => {
                    tokio::task::block_in_place(|| self.answer_waiting());
                    continue;
                }
                Some(command) = self.commands.recv() => {
                    self.obey(command).await;
                    continue;
                }
                () = hangup.came() => {
                    // What came of it is an event, and so in the log.
                    let _ = self.reload(false).await;
                    continue;
                }
            }
            // What came meanwhile goes into the same change.
            while let Ok(change) = self.health_changes.try_recv() {
                self.note(&change);
            }
            tokio::task::block_in_place(|| {
                // Flows are counted before what their backends' deadlines mean to them is done.
                let now = wall_clock::now();
                self.follow_drains(now);
                self.reconcile_at(now);
                self.save_again();
            });
        }
    }

    async fn obey(&mut self, command: Command) {
        // Nobody waits for the answer any more where the request was given up.
        match command {
            Command::Reload { dry_run, reply } => drop(reply.send(self.reload(dry_run).await)),
            Command::Maintain {
                name,
                is_maintained,
                reply,
            } => drop(reply.send(self.maintain(&name, is_maintained))),
            Command::Override { id, verb, reply } => drop(reply.send(self.override_backend(id, verb))),
        }
    }

    /// What the maps should hold for a configuration and overrides.
    pub(super) fn desired(&self, config: &Config, overrides: &Overrides, now: Timestamp) -> reconcile::Desired {
        self.with_known(config, overrides, now, |known| reconcile::desired(config, known))
    }

    /// Gives `work` what is known now.
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
        let returned = self.returned.elapsed(config, Instant::now());
        work(reconcile::Known {
            overrides,
            now,
            verdicts: &verdicts,
            returned: &returned,
            next_hops: &hops,
        })
    }

    /// Brings the maps to the desired state once.
    pub(super) fn reconcile(&mut self) {
        self.reconcile_at(wall_clock::now());
    }

    fn reconcile_at(&mut self, now: Timestamp) {
        let in_force = self.in_force.borrow().clone();
        self.next_hops.mark_unchanged();
        self.learn_ways();
        self.returned.forget_old(in_force.config(), Instant::now());
        let config = in_force.config();
        let (desired, conditions, services) = self.with_known(config, &in_force.overrides, now, |known| {
            let desired = reconcile::desired(config, known);
            let conditions = reconcile::conditions(config, &desired, known);
            let services = service_health(config, known, &conditions);
            (desired, conditions, services)
        });
        let mut told = Vec::new();
        self.conditions
            .send_modify(|before| told = conditions::take(before, conditions));
        for happening in told {
            self.events.record(happening);
        }
        self.services.send_if_modified(|before| {
            let is_new = *before != services;
            *before = services;
            is_new
        });
        let result = reconcile::observe(&self.tables)
            .map_err(|error| error.to_string())
            .and_then(|observed| {
                let plan = reconcile::plan_with(&desired, &observed, &mut self.ring_cache);
                reconcile::apply(&plan, &mut self.tables).map_err(|error| error.to_string())?;
                Ok(plan)
            });
        self.report(result);
        self.answer_waiting();
    }

    /// Answers virtual routers that wait until this balancer can serve.
    fn answer_waiting(&mut self) {
        let mut open = self.vrrp.readiness_requests().pending();
        self.readiness.retain(|question, _| open.remove(question).is_some());
        if self.readiness.is_empty() && open.is_empty() {
            return;
        }
        let (health, now) = (self.health.snapshot(), Instant::now());
        let new = open.into_iter();
        let new = new.map(|(question, addresses)| (question, Readiness::new(addresses, &health, now)));
        self.readiness.extend(new);
        let in_force = self.in_force.borrow().clone();
        let entries = Entries::read(&self.tables).ok();
        let hops = self.next_hops.borrow().clone();
        let is_there =
            |(_, readiness): &(&u64, &Readiness)| readiness.is_there(&in_force, &health, entries.as_ref(), &hops, now);
        let answered: Vec<_> = self
            .readiness
            .iter()
            .filter(is_there)
            .map(|(question, _)| *question)
            .collect();
        for question in answered {
            self.readiness.remove(&question);
            self.vrrp.grant_readiness(question);
        }
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
                self.events.record(Happening::new(Kind::ReconcileFailed, error));
            }
            None if before.is_some() => self.events.record(Happening::new(Kind::ReconcileRecovered, "")),
            _ => {}
        }
        if steps > 0 {
            tracing::debug!(steps, "brought the maps to the desired state");
        }
        self.reconciled.send_modify(|status| {
            status.runs += 1;
            status.last_error = error;
            if steps > 0 {
                status.last_change = Some(crate::api::timestamp(SystemTime::now()));
            }
        });
    }

    fn note(&mut self, change: &HealthChange) {
        self.returned.note(change, Instant::now());
        let BackendId { service, backend } = &change.target;
        let kind = match change.to {
            Verdict::Up => Kind::BackendUp,
            Verdict::Down => Kind::BackendDown,
            Verdict::Unknown => Kind::BackendUnknown,
        };
        self.events
            .record(Happening::new(kind, &change.cause).of_backend(service, backend));
    }
}

/// How many backends of each service can take packets: those that are not known to be down, and that operators let; and which
/// services refuse clients because the others are.
fn service_health(config: &Config, known: reconcile::Known<'_>, conditions: &Conditions) -> lb_core::vrrp::Services {
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
        let refuses = down > 0 && conditions.get(&service.name) == Some(&Condition::Unserved);
        let health = lb_core::vrrp::ServiceHealth {
            up,
            refuses_at: refuses.then_some(service.address),
        };
        (service.name.clone(), health)
    };
    config.services.iter().map(health).collect()
}

/// SIGHUP, where it can be watched.
pub(super) struct Hangup(Option<tokio::signal::unix::Signal>);

impl Hangup {
    /// Watches for it from now on: what comes before that would end the process.
    pub(super) fn watch() -> Self {
        let watched = signal(SignalKind::hangup());
        if let Err(error) = &watched {
            tracing::error!(%error, "SIGHUP cannot be watched; `lbctl reload` works");
        }
        Self(watched.ok())
    }

    async fn came(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
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
