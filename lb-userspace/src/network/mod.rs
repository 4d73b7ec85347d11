//! The network around the balancer: neighbours and routes, interface changes, raw sockets, reserved
//! ports.

pub(crate) mod link_changes;
pub mod neighbour;
#[cfg(test)]
pub(crate) mod netns;
pub mod port_reservation;
pub mod raw_socket;
