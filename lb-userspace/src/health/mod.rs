//! Health of backends: what is asked, when, and what the answers mean.

mod cause;
mod hindrances;
mod hysteresis;
mod means;
mod monitor;
mod own_links;
mod pace;
mod passive;
mod probe;
mod target;
mod thread;
mod through;

pub use cause::ProbeFailure;
pub use hysteresis::{Decision, Hysteresis, Verdict};
pub use means::{Means, MeansError};
pub use monitor::{Change, Health, Monitor};
pub use own_links::OwnLinks;
pub use passive::Signs;
pub use target::{Target, TargetError, TargetId, Targets, targets};
pub use through::{Through, ThroughError, Way, device};
