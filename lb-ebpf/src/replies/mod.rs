//! Packets that the balancer sends itself, in place of the packet that they answer.

pub mod reset;
pub mod too_big;
