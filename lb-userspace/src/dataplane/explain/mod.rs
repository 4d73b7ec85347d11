//! Which backend a packet would get or has, through which stages, and why: the way of the packet path, read from the same
//! maps with the same arithmetic, and without leaving a trace in them.

mod answer;
mod chooser;
mod way;

use std::net::SocketAddr;

pub use answer::{Candidate, Certainty, Explanation, Found, Stage, Verdict};
pub use way::explain;

use lb_core::config::Protocol;

/// A packet that is asked about: for TCP the SYN of a new connection, or any of one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Protocol.
    pub protocol: Protocol,
    /// Where it comes from.
    pub client: SocketAddr,
    /// Where it goes to; of the client's family.
    pub virtual_address: SocketAddr,
}
