//! Next hops: interface and link-layer address for every backend, kept up to date by netlink.
//!
//! XDP sends frames without the kernel's neighbour table, so the kernel has no reason to resolve an
//! address or to confirm it. This module asks the kernel to do both.
//!
//! - `resolve` and `refresh` decide (pure).
//! - `messages` converts netlink messages (pure).
//! - `netlink` and `driver` do the I/O.

mod driver;
mod messages;
mod netlink;
mod refresh;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use lb_common::NextHop;
use tokio::{sync::watch, task::JoinHandle};

/// The reason while a neighbour is being resolved.
pub const RESOLVING: &str = "resolving";

/// The state of the path to one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHopState {
    /// Where frames go; `None`: unknown, and `reason` says why.
    pub hop: Option<NextHop>,
    /// The router on the path; `None`: the target is on the link, or there is no route.
    pub gateway: Option<IpAddr>,
    /// Name of the route's interface; empty without a route.
    pub interface: String,
    /// Index of that interface; 0 without a route.
    pub ifindex: u32,
    /// Why there is no hop: `no route`, `local address`, `resolving`, `neighbour failed` and
    /// others; empty if there is one.
    pub reason: String,
}

/// The state of every target.
pub type NextHops = BTreeMap<IpAddr, NextHopState>;

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
