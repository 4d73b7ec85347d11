//! The stages of a packet: what it is, which backend takes it, how it changes, how it leaves.

pub mod emit;
pub mod extensions;
pub mod guard;
pub mod icmp_error;
pub mod lookup;
mod punt;
pub mod reschedule;
pub mod rewrite;
pub mod select;
