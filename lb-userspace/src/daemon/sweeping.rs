//! Walks through the flow table at its own pace, on its own thread.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::{V4, V6};
use tokio::sync::watch;

use super::{InForce, entries};
use crate::{
    config::Timeouts,
    dataplane::{Tables, flows::FlowEntry},
    flows::sweep::Sweeper,
    raw_socket::{self, Sender},
    reconcile,
};

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
    sender: Sender,
}

impl Sweeping {
    pub(super) fn new(in_force: watch::Receiver<Arc<InForce>>, tables: Tables) -> std::io::Result<Self> {
        Ok(Self {
            tables,
            in_force,
            sender: Sender::new()?,
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
                |flow| self.nudge(flow, turn),
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

    /// Makes the client of a dead backend speak, so that the packet path can tell it.
    fn nudge(&self, flow: &FlowEntry, turn: u32) {
        let (family, packet) = match flow.key.source {
            SocketAddr::V4(_) => (4, raw_socket::nudge(&flow.key.as_key::<V4>(), turn)),
            SocketAddr::V6(_) => (6, raw_socket::nudge(&flow.key.as_key::<V6>(), turn)),
        };
        if let Err(error) = self.sender.send(family, &packet) {
            tracing::debug!(%error, client = %flow.key.source, "a client could not be told that its backend is down");
        }
    }
}

/// Whether it is told to end, or nobody is left who could tell it.
fn has_ended(stopped: &watch::Receiver<bool>) -> bool {
    *stopped.borrow() || stopped.has_changed().is_err()
}
