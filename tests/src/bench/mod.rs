//! Measurements: nanoseconds per packet, and requests per second beside others who do the same.

pub mod http;
mod machine;
pub mod packets;
mod runner;
mod statistics;
