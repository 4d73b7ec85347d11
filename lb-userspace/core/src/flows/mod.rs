//! Flow maintenance: when a flow ends, and when its counters are corrected.

pub mod aging;
pub mod drift;
