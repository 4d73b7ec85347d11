//! Checks that ask a virtual address by way of one worker, as packets of clients come to it.
//!
//! A check's socket is connected to a *stand-in* address, which leads into a device of our own ([`device`]). What comes out
//! there is given the virtual address and travels to the worker as the service's mode says ([`wire`]). The worker answers
//! from the virtual address to the check's own; a program at the interface gives answers their stand-in back
//! ([`crate::dataplane::CheckReplies`]). [`driver`] holds these together.

mod device;
mod driver;
mod origin;
mod way;
mod wire;

pub use driver::{Through, ThroughError};
pub(super) use origin::origin;
pub(super) use way::stand_in;
pub use way::{Way, device};
