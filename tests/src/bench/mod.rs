//! Measurements: nanoseconds per packet, scale, failover, and requests per second beside other
//! balancers.

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
