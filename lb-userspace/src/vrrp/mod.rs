//! VRRP: which balancer of several has the virtual addresses (RFC 9568, version 3; RFC 3768, version 2).
//!
//! `wire` (packets) and `instance` (who is master) are pure, time is an argument; `driver` carries them out on a thread of its
//! own, with `socket`, `addresses` and `announce` for what the kernel does.

mod addresses;
mod announce;
mod driver;
mod instance;
#[cfg(test)]
mod simulation;
mod socket;
pub mod wire;

pub use driver::{Instances, Order, Status, VrrpError};
pub use instance::{Action, Instance, Micros, Role, Rules};
