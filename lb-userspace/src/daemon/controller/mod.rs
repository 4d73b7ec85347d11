//! The controller: one loop that keeps the maps in sync with the desired state and carries out
//! operators' commands, one after the other.

mod commands;
mod conditions;
mod drains;
pub(super) mod overrides;
mod readiness;
mod reconcile;
mod reload;
mod slow_start;
mod targets;

use std::{
    collections::BTreeMap,
    future::Future,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::{ActiveConfig, interfaces::Interfaces, signals::Hangup};
use crate::{
    admin::RulesHandle,
    api::ReconcileStatus,
    dataplane::{Pins, Tables},
    events::{Events, Happening, Kind},
    health::Monitor,
    network::neighbour::{Neighbours, NextHopState},
    system::wall_clock,
    vrrp,
};
pub(super) use commands::{Command, Remote};
pub(super) use conditions::Conditions;
use lb_core::{
    config::BackendId,
    health::{HealthChange, Verdict},
    schedule::RingCache,
};
use readiness::Readiness;
pub(super) use slow_start::SlowStarts;

/// How often the maps are compared with the desired state even if nothing is known to have changed.
const PERIOD: Duration = Duration::from_secs(5);
/// How often weights of slowly starting backends are renewed, and drains are followed.
const STEP: Duration = Duration::from_secs(1);

/// The state of the loop.
pub(super) struct Controller {
    pub(super) config_path: PathBuf,
    pub(super) active: watch::Sender<Arc<ActiveConfig>>,
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
    /// Readiness requests of virtual routers that are not answered yet, by number.
    pub(super) readiness: BTreeMap<u64, Readiness>,
    /// The health of services, which virtual routers can track.
    pub(super) services: watch::Sender<lb_core::vrrp::Services>,
    pub(super) slow_starts: SlowStarts,
    pub(super) reconciled: watch::Sender<ReconcileStatus>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// When the process started.
    pub(super) started: Timestamp,
    /// Which backends take the new flows of each service.
    pub(super) conditions: watch::Sender<Conditions>,
    /// Whether the active overrides could not be saved.
    pub(super) is_unsaved: bool,
    pub(super) events: Events,
}

impl Controller {
    /// Runs until `end` is ready, and returns its value.
    pub(super) async fn run_until<T>(&mut self, end: impl Future<Output = T>, mut hangup: Hangup) -> T {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut questions = self.vrrp.readiness_requests().subscribe();
        tokio::pin!(end);
        loop {
            let is_moving = self.slow_starts.any() || self.is_draining();
            let deadline = self.until_deadline();
            tokio::select! {
                ended = &mut end => return ended,
                _ = period.tick() => {}
                () = tokio::time::sleep(STEP), if is_moving => {}
                () = tokio::time::sleep(deadline.unwrap_or(PERIOD)), if deadline.is_some() => {}
                Some(change) = self.health_changes.recv() => self.note(&change),
                Ok(()) = self.next_hops.changed() => {}
                Ok(()) = questions.changed() => {}
                () = tokio::time::sleep(readiness::PERIOD), if !self.readiness.is_empty() => {
                    tokio::task::block_in_place(|| self.answer_readiness());
                    continue;
                }
                Some(command) = self.commands.recv() => {
                    self.execute(command).await;
                    continue;
                }
                () = hangup.received() => {
                    // The result is an event, and so in the log.
                    let _ = self.reload(false).await;
                    continue;
                }
            }
            // Changes that arrived meanwhile go into the same plan.
            while let Ok(change) = self.health_changes.try_recv() {
                self.note(&change);
            }
            tokio::task::block_in_place(|| {
                // Drains are followed first: flows are counted before an expired deadline ends
                // them.
                let now = wall_clock::now();
                self.follow_drains(now);
                self.reconcile_at(now);
                self.save_again();
            });
        }
    }

    async fn execute(&mut self, command: Command) {
        // The reply is dropped if the client has closed its request.
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

    /// Takes note of a health change, and records its event.
    fn note(&mut self, change: &HealthChange) {
        self.slow_starts.note(change, Instant::now());
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
