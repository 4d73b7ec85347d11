//! Explains which backend a packet would get or has: traces the stages of the packet path in the
//! same maps with the same arithmetic. Changes nothing.

mod explanation;
mod select;
mod trace;

use std::net::SocketAddr;

pub use explanation::{Candidate, Certainty, Explanation, Found, Stage, Verdict};
pub use trace::explain;

use lb_core::config::Protocol;

/// The packet to explain: for TCP the SYN of a new connection, or any packet of an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Protocol.
    pub protocol: Protocol,
    /// Source.
    pub client: SocketAddr,
    /// Destination, of the same family as the source.
    pub virtual_address: SocketAddr,
}
