//! The two paths of a packet.
//!
//! A packet of a known flow, found in its most likely place, that changes nothing but the time
//! takes the [`fast`] path alone. Every other packet continues on the [`slow`] path: a program of
//! its own, with a stack of its own, that starts again and handles every case.

mod choose;
pub mod fast;
mod send;
pub mod slow;
