//! Walks through the flow table at its own pace, on its own thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{InForce, entries};
use crate::{
    daemon::flows::{Teller, sweep::Sweeper},
    dataplane::Tables,
};
use lb_core::flows::aging::Fate;
use lb_core::{config::Timeouts, reconcile};

/// From the end of one walk to the beginning of the next, at least.
const PAUSE: Duration = Duration::from_millis(1000);
/// A walk may take this part of the time, so that a large table does not take a whole CPU.
const SHARE: u32 = 10;
/// How often the end of the process is looked for.
const STEP: Duration = Duration::from_millis(50);

/// What the walks need.
pub(super) struct Sweeping {
    tables: Tables,
    in_force: watch::Receiver<Arc<InForce>>,
    teller: Teller,
}

impl Sweeping {
    pub(super) fn new(in_force: watch::Receiver<Arc<InForce>>, tables: Tables) -> std::io::Result<Self> {
        Ok(Self {
            tables,
            in_force,
            teller: Teller::new()?,
        })
    }

    /// The timeouts of the service at an index of the map.
    fn timeouts(&self, index: u32) -> Timeouts {
        let front = self
            .tables
            .services
            .read(index)
            .and_then(|service| reconcile::front(&service));
        let in_force = self.in_force.borrow();
        let services = &in_force.config().services;
        front
            .and_then(|front| services.iter().find(|service| entries::front(service) == front))
            .map_or_else(Timeouts::default, |service| service.timeouts)
    }

    /// Walks until told to end.
    pub(super) fn run(&self, stopped: &watch::Receiver<bool>) {
        let mut sweeper = Sweeper::default();
        let mut turn = 0_u32;
        while !has_ended(stopped) {
            let begin = Instant::now();
            turn = turn.wrapping_add(1);
            match sweeper.sweep(
                &self.tables,
                |service| self.timeouts(service),
                |flow, fate| match fate {
                    Fate::Dismiss => self.teller.dismiss(flow),
                    _ => self.teller.nudge(flow, turn),
                },
            ) {
                Ok(swept) if swept.corrected > 0 => tracing::warn!(?swept, "counts of flows were corrected"),
                Ok(swept) => tracing::trace!(?swept, "walked through the flow table"),
                Err(error) => tracing::error!(%error, "the flow table cannot be walked through"),
            }
            let next = Instant::now() + PAUSE.max(begin.elapsed() * SHARE);
            while Instant::now() < next && !has_ended(stopped) {
                std::thread::sleep(STEP);
            }
        }
    }
}

/// Whether it is told to end, or nobody is left who could tell it.
fn has_ended(stopped: &watch::Receiver<bool>) -> bool {
    *stopped.borrow() || stopped.has_changed().is_err()
}
