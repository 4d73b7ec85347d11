//! The controller of the load balancer: from configuration to maps, and back to what an operator can see.

pub mod admin;
pub mod capabilities;
pub mod cli;
mod command;
pub mod config_file;
pub mod daemon;
pub mod dataplane;
pub mod descriptors;
pub mod events;
pub mod explain;
pub mod flows;
pub mod health;
mod link_changes;
pub mod lock;
pub mod neighbour;
#[cfg(test)]
mod netns;
mod overrides_file;
pub mod raw_socket;
pub mod reserve;
pub mod steady;
pub mod usable;
pub mod vrrp;
