//! The life of flows that packets alone do not end.

mod drift;
mod hops;
pub mod sweep;
mod telling;

pub use telling::Teller;
