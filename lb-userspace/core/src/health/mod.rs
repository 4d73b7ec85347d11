//! Health checks without I/O: when checks are due, and what their results mean.

mod cause;
mod hysteresis;
mod link_flaps;
mod passive;
mod probe_errors;
mod probe_schedule;
mod tracker;
pub mod vip_packet;
mod vip_path;

pub use hysteresis::{Decision, Hysteresis, Verdict};
pub use link_flaps::LinkFlaps;
pub use passive::PassiveCheck;
pub use probe_errors::ProbeErrors;
pub use probe_schedule::ProbeSchedule;
pub use tracker::{CheckResult, Health, HealthChange, HealthTracker};
pub use vip_path::{PLACEHOLDER_PREFIXES, VipPath, device_name, placeholder};
