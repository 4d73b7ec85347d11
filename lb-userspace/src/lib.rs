//! The controller of the load balancer: from configuration to maps, and back to what an operator can see.

pub mod admin;
pub mod config;
pub mod dataplane;
pub mod flows;
pub mod health;
pub mod reconcile;
pub mod schedule;
