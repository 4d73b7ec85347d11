//! The shell of the controller: what it reads, writes and serves. The decisions are in `lb_core`.

pub mod admin;
pub mod api;
pub mod cli;
pub mod daemon;
pub mod dataplane;
pub mod events;
pub mod health;
pub mod network;
pub mod system;
pub mod vrrp;
