//! Walks through the flow table at its own pace, on its own thread.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    config::{Config, Timeouts},
    dataplane::{Tables, VirtualAddress, flows::FlowEntry},
    flows::sweep::Sweeper,
    raw_socket::{self, Sender},
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
    timeouts: HashMap<VirtualAddress, Timeouts>,
    sender: Sender,
}

impl Sweeping {
    pub(super) fn new(config: &Config, tables: Tables) -> std::io::Result<Self> {
        let timeouts = config.services.iter().map(|service| {
            let at = VirtualAddress {
                address: service.address,
                port: service.port,
                protocol: service.protocol.number(),
            };
            (at, service.timeouts)
        });
        Ok(Self { tables, timeouts: timeouts.collect(), sender: Sender::new()? })
    }

    /// Walks until told to end.
    pub(super) fn run(&self, stopped: &watch::Receiver<bool>) {
        let mut sweeper = Sweeper::default();
        while !*stopped.borrow() {
            let begin = Instant::now();
            match sweeper.sweep(&self.tables, &self.timeouts, |flow| self.nudge(flow)) {
                Ok(swept) if swept.corrected > 0 => tracing::warn!(?swept, "counts of flows were corrected"),
                Ok(swept) => tracing::trace!(?swept, "walked through the flow table"),
                Err(error) => tracing::error!(%error, "the flow table cannot be walked through"),
            }
            let next = Instant::now() + PAUSE.max(begin.elapsed() * SHARE);
            while Instant::now() < next && !*stopped.borrow() {
                std::thread::sleep(STEP);
            }
        }
    }

    /// Makes the client of a dead backend speak, so that the packet path can tell it.
    fn nudge(&self, flow: &FlowEntry) {
        let (client, virtual_address): (SocketAddr, SocketAddr) = (flow.key.source, flow.key.destination);
        let packet = raw_socket::nudge::nudge(client, virtual_address);
        let family = if client.is_ipv4() { 4 } else { 6 };
        if let Err(error) = self.sender.send(family, &packet) {
            tracing::debug!(%error, %client, "a client could not be told that its backend is down");
        }
    }
}
