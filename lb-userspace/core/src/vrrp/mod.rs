//! The VRRP protocol: which balancer of several has the virtual addresses (RFC 9568, version 3; RFC 3768, version 2).
//!
//! Pure: time is an argument, and actions are return values.

pub mod group;
pub mod instance;
pub mod judge;
pub mod lease;
pub mod oddities;
pub mod relay;
pub mod repeats;
#[cfg(test)]
mod simulation;
pub mod track_result;
pub mod wire;

pub use group::Group;
pub use instance::{Action, Answer, Instance, Micros, Role, Rules};
pub use track_result::{ServiceHealth, Services, Standing, TrackState};
