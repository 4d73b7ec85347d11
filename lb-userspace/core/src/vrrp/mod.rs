//! The VRRP protocol: which balancer of several has the virtual addresses (RFC 9568, version 3; RFC 3768, version 2).
//!
//! Pure: time is an argument, and actions are return values.

pub mod advert;
pub mod announce_schedule;
pub mod instance;
pub mod lease;
pub mod mismatch;
pub mod relay;
#[cfg(test)]
mod simulation;
pub mod sync_group;
pub mod tracking;
pub mod validation;

pub use instance::{Action, EchoReply, Inactive, Instance, Micros, Parameters, Role};
pub use sync_group::SyncGroup;
pub use tracking::{ServiceHealth, Services, TrackResult, TrackState};
