//! The network around the balancer: neighbours and routes, changes of interfaces, raw sockets, reserved ports.

pub(crate) mod link_changes;
pub mod neighbour;
#[cfg(test)]
pub(crate) mod netns;
pub mod raw_socket;
pub mod reserve;
