//! Rewrite: what a forwarding mode changes in a packet.

pub mod nat;
pub mod toa;
pub mod tunnel;
