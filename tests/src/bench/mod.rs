//! Measurements: nanoseconds per packet, and requests per second beside others who do the same.

pub mod failover;
pub mod flows;
pub mod health;
pub mod http;
pub mod idle;
mod machine;
pub mod packets;
pub mod plot;
mod runner;
pub mod scale;
mod statistics;
