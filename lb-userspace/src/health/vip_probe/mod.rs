//! Health checks with `target = "virtual"`: each one reaches the virtual address through one given
//! worker.
//!
//! 1. The check connects its socket to a *placeholder address* that belongs to this worker alone
//!    ([`lb_core::health::placeholder`]). A route leads it into a tun device ([`device`]).
//! 2. [`forwarder`] reads the packet from the device, replaces the placeholder by the virtual
//!    address, and sends the packet to the worker as the service's mode does
//!    ([`lb_core::health::vip_packet`]).
//! 3. The worker replies from the virtual address to the check's source address ([`source`]).
//! 4. A TC program on the interface replaces the virtual address by the placeholder
//!    ([`crate::dataplane::CheckReplies`]), so that the socket accepts the reply.

mod device;
mod forwarder;
mod source;

pub use forwarder::{VipForwarder, VipProbeError};
pub(super) use source::source;
