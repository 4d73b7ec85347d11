//! Health of backends: what is asked, when, and what the answers mean.

mod cause;
mod hysteresis;
mod monitor;
mod passive;
mod probe;

pub use cause::ProbeFailure;
pub use hysteresis::{Hysteresis, Verdict};
pub use monitor::{Change, Health, Monitor, Target, TargetId};
pub use passive::Signs;
