//! Next hops of backends: decides them from links, routes and neighbours, and when the kernel is
//! asked to refresh a neighbour. Pure.

pub mod refresh;
pub mod resolve;

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::NextHop;

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
