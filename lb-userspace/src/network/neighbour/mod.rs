//! Next hops: interface and link-layer address for every backend, kept up to date by netlink.
//!
//! XDP sends frames without the kernel's neighbour table, so the kernel has no reason to resolve an
//! address or to confirm it. This module asks the kernel to do both.
//!
//! - [`lb_core::neighbour`] decides (pure).
//! - `messages` converts netlink messages (pure).
//! - `netlink` and `driver` do the I/O.

mod driver;
mod messages;
mod netlink;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, io, net::IpAddr};

pub use lb_core::neighbour::{NextHopState, NextHops, RESOLVING};
use tokio::{sync::watch, task::JoinHandle};

/// Why next hops cannot be resolved at all.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// A netlink socket could not be opened or joined to its groups.
    #[error("cannot open a netlink socket to follow links, routes and neighbours: {0}")]
    Open(#[source] io::Error),
}

/// Keeps the next hops of a set of targets up to date, until it is dropped.
#[derive(Debug)]
pub struct Neighbours {
    targets: watch::Sender<BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

impl Neighbours {
    /// Starts in the network namespace of the calling thread. Must be called within a tokio
    /// runtime.
    ///
    /// The receiver sees the states of all targets, after each change of one.
    ///
    /// # Errors
    /// When the netlink sockets cannot be opened.
    pub fn spawn() -> Result<(Self, watch::Receiver<NextHops>), NeighbourError> {
        let netlink = netlink::Netlink::open().map_err(NeighbourError::Open)?;
        let (targets, targets_seen) = watch::channel(BTreeSet::new());
        let (states_sender, states) = watch::channel(NextHops::new());
        let task = tokio::spawn(driver::Driver::new(netlink, targets_seen, states_sender).run());
        Ok((Self { targets, task }, states))
    }

    /// Replaces the set of targets. States of others are removed.
    pub fn set_targets(&self, targets: BTreeSet<IpAddr>) {
        self.targets.send_if_modified(|current| {
            let changed = *current != targets;
            *current = targets;
            changed
        });
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.task.abort();
    }
}
