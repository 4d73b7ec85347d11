//! The thread that sweeps the flow table again and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{challenge::Challenger, sweep::Sweeper};
use crate::{
    daemon::{ActiveConfig, map_entries},
    dataplane::Tables,
};
use lb_core::{config::Timeouts, flows::aging::Fate, reconcile};

/// Shortest pause between two sweeps.
const PAUSE: Duration = Duration::from_millis(1000);
/// The pause is at least so many times the length of the sweep: a large table does not take a whole
/// CPU.
const PAUSE_FACTOR: u32 = 10;
/// How often the thread looks whether it should stop.
const STOP_PERIOD: Duration = Duration::from_millis(50);

/// What the thread needs.
pub(in crate::daemon) struct SweepThread {
    tables: Tables,
    active: watch::Receiver<Arc<ActiveConfig>>,
    challenger: Challenger,
}

impl SweepThread {
    pub(in crate::daemon) fn new(active: watch::Receiver<Arc<ActiveConfig>>, tables: Tables) -> std::io::Result<Self> {
        Ok(Self {
            tables,
            active,
            challenger: Challenger::new()?,
        })
    }

    /// The timeouts of the service at an index of the map.
    fn timeouts(&self, index: u32) -> Timeouts {
        let front = self
            .tables
            .services
            .read(index)
            .and_then(|service| reconcile::front(&service));
        let active = self.active.borrow();
        let services = &active.config().services;
        front
            .and_then(|front| services.iter().find(|service| map_entries::front(service) == front))
            .map_or_else(Timeouts::default, |service| service.timeouts)
    }

    /// Sweeps until `stopped` is true.
    pub(in crate::daemon) fn run(&self, stopped: &watch::Receiver<bool>) {
        let mut sweeper = Sweeper::default();
        let mut attempt = 0_u32;
        while !is_stopped(stopped) {
            let begin = Instant::now();
            attempt = attempt.wrapping_add(1);
            match sweeper.sweep(
                &self.tables,
                |service| self.timeouts(service),
                |flow, fate| match fate {
                    Fate::EndAndChallenge => self.challenger.challenge_ended(flow),
                    _ => self.challenger.challenge(flow, attempt),
                },
            ) {
                Ok(swept) if swept.corrected > 0 => {
                    tracing::warn!(?swept, "flow counters were wrong and are corrected")
                }
                Ok(swept) => tracing::trace!(?swept, "swept the flow table"),
                Err(error) => tracing::error!(%error, "cannot sweep the flow table"),
            }
            let next = Instant::now() + PAUSE.max(begin.elapsed() * PAUSE_FACTOR);
            while Instant::now() < next && !is_stopped(stopped) {
                std::thread::sleep(STOP_PERIOD);
            }
        }
    }
}

/// Whether the daemon ends. Also true when the sender is dropped.
fn is_stopped(stopped: &watch::Receiver<bool>) -> bool {
    *stopped.borrow() || stopped.has_changed().is_err()
}
