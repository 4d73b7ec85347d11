//! Health of backends: what is asked, when, and what the answers mean.

mod cause;
mod means;
mod monitor;
mod own_links;
mod probe;
mod target;
mod thread;
mod through;

pub use cause::ProbeFailure;
pub use means::{Means, MeansError};
pub use monitor::{Change, Health, Monitor};
pub use own_links::OwnLinks;
pub use target::{Target, TargetError, Targets, targets};
pub use through::{Through, ThroughError, Way, device};
