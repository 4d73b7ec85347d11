//! Makes clients speak that wait for somebody who is not there, so that the packet path can tell them.

use std::{io, net::SocketAddr};

use lb_common::{V4, V6};

use crate::{
    dataplane::flows::FlowEntry,
    network::raw_socket::{self, Sender},
};

/// Sends what makes clients speak.
#[derive(Debug)]
pub struct Teller(Sender);

impl Teller {
    /// Opens what it sends by, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// See [`Sender::new`].
    pub fn new() -> io::Result<Self> {
        Sender::new().map(Self)
    }

    /// Asks the client of a flow that is still known, once. `turn` says the how many-th time it is.
    pub fn nudge(&self, flow: &FlowEntry, turn: u32) {
        let (family, packet) = match flow.key.source {
            SocketAddr::V4(_) => (4, raw_socket::nudge(&flow.key.as_key::<V4>(), turn)),
            SocketAddr::V6(_) => (6, raw_socket::nudge(&flow.key.as_key::<V6>(), turn)),
        };
        if let Err(error) = self.0.send(family, &packet) {
            tracing::debug!(%error, client = %flow.key.source, "a client could not be told that nobody answers it");
        }
    }

    /// Asks the client of a flow that is forgotten, and so can be asked only now. Of two turns in a row at most one misses, and
    /// no client answers both: the first answer is met by an RST.
    pub fn dismiss(&self, flow: &FlowEntry) {
        for turn in 0..2 {
            self.nudge(flow, turn);
        }
    }
}
