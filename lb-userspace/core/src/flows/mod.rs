//! The life of flows that packets alone do not end.

pub mod aging;
pub mod drift;
