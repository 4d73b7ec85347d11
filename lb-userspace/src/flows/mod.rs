//! The life of flows that packets alone do not end.

pub mod aging;
mod drift;
mod hops;
pub mod sweep;
mod telling;

pub use telling::Teller;
