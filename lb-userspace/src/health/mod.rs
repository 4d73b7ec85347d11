//! Health checks: sends them, and keeps the health of each backend. [`lb_core::health`] decides
//! when checks are due and what their results mean.
//!
//! | module | purpose |
//! |---|---|
//! | [`target`] | what to check: address, check and resources of each backend |
//! | [`monitor`] | one task per backend that checks it again and again |
//! | [`probe`] | one check of each type: `tcp`, `http`, `grpc`, `udp`, `dns`, `icmp`, `command` |
//! | [`failure`] | why a check failed |
//! | [`probe_resources`] | certificates, keys and users that checks need |
//! | [`vip_probe`] | checks of the virtual address (`target = "virtual"`) |
//! | [`thread`] | the thread that checks run on |

mod failure;
mod monitor;
mod probe;
mod probe_resources;
mod target;
mod thread;
mod vip_probe;

pub use failure::ProbeFailure;
pub use monitor::Monitor;
pub use probe_resources::{ProbeResources, ProbeResourcesError};
pub use target::{Target, TargetError, Targets, targets};
pub use vip_probe::{VipForwarder, VipProbeError};
