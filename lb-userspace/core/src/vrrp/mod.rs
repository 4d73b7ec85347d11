//! The VRRP protocol: which of several balancers has the virtual addresses (RFC 9568 for version 3,
//! RFC 3768 for version 2).
//!
//! | module | purpose |
//! |---|---|
//! | `advert` | adverts as values and as bytes |
//! | `validation` | which received packets count |
//! | `mismatch` | reports adverts that differ from the configuration |
//! | `instance` | the state machine of one virtual router |
//! | `sync_group` | virtual routers that move together |
//! | `tracking` | conditions that change role and priority |
//! | `lease` | whether a master that slept lost its lease |
//! | `announce_schedule` | when to repeat gratuitous ARP and neighbour advertisements |
//! | `relay` | connections of the former master |
//!
//! Pure: time is an argument, and actions are return values. The configuration imports this module,
//! not the other way around.
//!
//! Terms:
//!
//! - An *orphan* is a packet path whose controller is dead.
//! - The *lease* is the controller's time-limited claim, in a map of the packet path, that it is
//!   alive and master.
//! - An *echo* is a probe to which the packet path of another balancer replies.

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
