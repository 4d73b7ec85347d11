//! Next hops: to which interface and link-layer address packets for a backend go, kept fresh by netlink.
//!
//! XDP sends frames past the kernel's neighbour table, so the kernel sees no reason to resolve an address or to check
//! it again. This module asks for both: `resolve` and `kicks` decide (pure), `translate` reads netlink messages
//! (pure), `kernel` and `driver` do the I/O.

mod driver;
mod kernel;
mod kicks;
mod resolve;
#[cfg(test)]
mod tests;
mod translate;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use lb_common::NextHop;
use tokio::{sync::watch, task::JoinHandle};

/// The reason for no hop while a neighbour is being asked.
pub const RESOLVING: &str = "resolving";

/// What is known of the way to one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHopState {
    /// Where frames go; `None` while that is not known, and `reason` says why.
    pub hop: Option<NextHop>,
    /// The router on the way; `None`: the target is on the link, or there is no route.
    pub gateway: Option<IpAddr>,
    /// Name of the interface that the route leaves by; empty without a route.
    pub interface: String,
    /// Index of that interface; 0 without a route.
    pub ifindex: u32,
    /// Why there is no hop, such as `no route`, `local address`, `resolving`, `neighbour failed`; empty when there is.
    pub reason: String,
}

/// The way to every target.
pub type NextHops = BTreeMap<IpAddr, NextHopState>;

/// Why next hops cannot be resolved at all.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// A netlink socket could not be opened or joined to its groups.
    #[error("cannot open a netlink socket to follow links, routes and neighbours: {0}")]
    Open(#[source] io::Error),
}

/// Follows the next hops of a set of targets, until it is dropped.
#[derive(Debug)]
pub struct Neighbours {
    targets: watch::Sender<BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

impl Neighbours {
    /// Starts to follow, in the network namespace of the calling thread. Must be called within a tokio runtime.
    ///
    /// The receiver sees the states of all targets, each time that one of them changed.
    ///
    /// # Errors
    /// When the netlink sockets cannot be opened.
    pub fn spawn() -> Result<(Self, watch::Receiver<NextHops>), NeighbourError> {
        let kernel = kernel::Kernel::open().map_err(NeighbourError::Open)?;
        let (targets, targets_seen) = watch::channel(BTreeSet::new());
        let (states_sender, states) = watch::channel(NextHops::new());
        let task = tokio::spawn(driver::Driver::new(kernel, targets_seen, states_sender).run());
        Ok((Self { targets, task }, states))
    }

    /// Says which targets to follow from now on. States of others disappear.
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
