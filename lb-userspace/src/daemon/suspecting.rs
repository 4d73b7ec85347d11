//! Has backends checked at once that the packet path sees fail.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::BackendSignals;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{InForce, entries::Entries};
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

/// How often the shared words are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// What is worked with.
pub(super) struct Suspecting {
    pub(super) in_force: watch::Receiver<Arc<InForce>>,
    pub(super) reconciled: watch::Receiver<ReconcileStatus>,
    pub(super) tables: Tables,
    pub(super) health: Arc<Monitor>,
    pub(super) events: Events,
}

/// A backend that is looked at.
#[derive(Clone, Copy, Default)]
struct Watched {
    /// Where it stands in the maps.
    index: u32,
    /// Tells it from others that stood there.
    generation: u32,
    check: PassiveCheck,
    /// Whether it is suspect, as far as was told.
    is_suspect: bool,
}

impl Suspecting {
    /// Looks until told to end. Where no service wants it, it sleeps.
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
                _ = ticks.tick(), if !watched.is_empty() => self.look(&mut watched),
            }
        }
    }

    /// Looks at what the maps hold now.
    fn follow(&self, watched: &mut BTreeMap<BackendId, Watched>) {
        match tokio::task::block_in_place(|| self.wanted(watched)) {
            Ok(wanted) => *watched = wanted,
            Err(error) => tracing::warn!(%error, "backends cannot be watched for failures"),
        }
    }

    fn wanted(&self, before: &BTreeMap<BackendId, Watched>) -> Result<BTreeMap<BackendId, Watched>, DataplaneError> {
        let in_force = Arc::clone(&self.in_force.borrow());
        let mut wanted = BTreeMap::new();
        if !in_force.config().services.iter().any(|service| service.passive) {
            return Ok(wanted);
        }
        let entries = Entries::read(&self.tables)?;
        for service in in_force.config().services.iter().filter(|service| service.passive) {
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
                let anew = Watched {
                    index,
                    generation,
                    ..Watched::default()
                };
                wanted.insert(id, known.unwrap_or(anew));
            }
        }
        Ok(wanted)
    }

    fn look(&self, watched: &mut BTreeMap<BackendId, Watched>) {
        let now = Instant::now();
        for (id, watched) in watched {
            let signals = self.tables.signals.read(watched.index).unwrap_or(BackendSignals::ZERO);
            if let Some(cause) = watched.check.evaluate(&signals, now)
                && self.health.suspect(id, &cause)
            {
                watched.is_suspect = true;
                self.tell(Kind::BackendSuspect, id, &cause);
            } else if watched.is_suspect {
                self.follow_suspect(id, watched);
            }
        }
    }

    /// Tells when a check has found a suspect in order. That one has not is told as what becomes of the backend.
    fn follow_suspect(&self, id: &BackendId, watched: &mut Watched) {
        let health = self.health.of(id);
        if health.as_ref().is_some_and(|health| health.suspicion.is_some()) {
            return;
        }
        watched.is_suspect = false;
        let is_well = health.is_some_and(|health| health.verdict == Verdict::Up);
        watched.check.checked(is_well);
        if is_well {
            self.tell(Kind::BackendSuspectCleared, id, "its check succeeded");
        }
    }

    fn tell(&self, kind: Kind, id: &BackendId, cause: &str) {
        self.events
            .record(Happening::new(kind, cause).of_backend(&id.service, &id.backend));
    }
}
