//! Passive checks: has a backend checked at once when clients' own packets show that it fails.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::BackendSignals;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{ActiveConfig, map_entries::MapEntries};
use crate::{
    api::ReconcileStatus,
    dataplane::{DataplaneError, Tables},
    events::{Events, Happening, Kind},
    health::Monitor,
};
use lb_core::{
    config::BackendId,
    health::{PassiveCheck, Verdict},
};

/// How often the signals in the maps are read.
const PERIOD: Duration = Duration::from_millis(100);

/// The task, and what it needs.
pub(super) struct PassiveChecks {
    pub(super) active: watch::Receiver<Arc<ActiveConfig>>,
    pub(super) reconciled: watch::Receiver<ReconcileStatus>,
    pub(super) tables: Tables,
    pub(super) health: Arc<Monitor>,
    pub(super) events: Events,
}

/// A backend whose signals are read.
#[derive(Clone, Copy, Default)]
struct Watched {
    /// Index of its map entry.
    index: u32,
    /// Generation of its map entry: another generation is another backend.
    generation: u32,
    check: PassiveCheck,
    /// Whether `backend-suspect` was recorded and not yet cleared.
    is_suspect: bool,
}

impl PassiveChecks {
    /// Reads signals until `stopped` is true. Sleeps while no service has passive checks.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = BTreeMap::new();
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                changed = self.reconciled.changed() => match changed {
                    Ok(()) => self.follow(&mut watched),
                    Err(_) => return,
                },
                _ = ticks.tick(), if !watched.is_empty() => self.read_signals(&mut watched),
            }
        }
    }

    /// Adapts the list of backends to the maps.
    fn follow(&self, watched: &mut BTreeMap<BackendId, Watched>) {
        match tokio::task::block_in_place(|| self.wanted(watched)) {
            Ok(wanted) => *watched = wanted,
            Err(error) => tracing::warn!(%error, "cannot read the signals of passive checks"),
        }
    }

    /// The backends of services with passive checks. Those known before keep their state.
    fn wanted(&self, before: &BTreeMap<BackendId, Watched>) -> Result<BTreeMap<BackendId, Watched>, DataplaneError> {
        let active = Arc::clone(&self.active.borrow());
        let mut wanted = BTreeMap::new();
        if !active.config().services.iter().any(|service| service.passive) {
            return Ok(wanted);
        }
        let entries = MapEntries::read(&self.tables)?;
        for service in active.config().services.iter().filter(|service| service.passive) {
            for backend in &service.backends {
                let Some((index, entry)) = entries.find(service, backend.address) else {
                    continue;
                };
                let id = BackendId {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                let (index, generation) = (*index, entry.status.generation());
                let is_same = |known: &&Watched| (known.index, known.generation) == (index, generation);
                let known = before.get(&id).filter(is_same).copied();
                let new = Watched {
                    index,
                    generation,
                    ..Watched::default()
                };
                wanted.insert(id, known.unwrap_or(new));
            }
        }
        Ok(wanted)
    }

    fn read_signals(&self, watched: &mut BTreeMap<BackendId, Watched>) {
        let now = Instant::now();
        for (id, watched) in watched {
            let signals = self.tables.signals.read(watched.index).unwrap_or(BackendSignals::ZERO);
            if let Some(cause) = watched.check.evaluate(&signals, now)
                && self.health.suspect(id, &cause)
            {
                watched.is_suspect = true;
                self.record(Kind::BackendSuspect, id, &cause);
            } else if watched.is_suspect {
                self.follow_suspect(id, watched);
            }
        }
    }

    /// Records when a check finds a suspect healthy. If the check fails, the event of the backend
    /// that goes down says so.
    fn follow_suspect(&self, id: &BackendId, watched: &mut Watched) {
        let health = self.health.of(id);
        if health.as_ref().is_some_and(|health| health.suspicion.is_some()) {
            return;
        }
        watched.is_suspect = false;
        let is_healthy = health.is_some_and(|health| health.verdict == Verdict::Up);
        watched.check.checked(is_healthy);
        if is_healthy {
            self.record(Kind::BackendSuspectCleared, id, "its check succeeded");
        }
    }

    fn record(&self, kind: Kind, id: &BackendId, cause: &str) {
        self.events
            .record(Happening::new(kind, cause).of_backend(&id.service, &id.backend));
    }
}
