//! The flow table.

pub mod bind;
