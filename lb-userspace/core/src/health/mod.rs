//! What results of health checks mean, and when checks are due.

pub mod hindrances;
mod hysteresis;
pub mod pace;
pub mod passive;

pub use hysteresis::{Decision, Hysteresis, Verdict};
pub use passive::Signs;
