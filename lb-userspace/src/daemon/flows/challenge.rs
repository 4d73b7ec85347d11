//! Sends challenge segments to clients whose backend is down, so that they get an RST.

use std::{io, net::SocketAddr};

use lb_common::{V4, V6};

use crate::{
    dataplane::flows::FlowEntry,
    network::raw_socket::{self, Sender},
};

/// Sends challenge segments.
#[derive(Debug)]
pub(super) struct Challenger(Sender);

impl Challenger {
    /// Opens its sockets in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// See [`Sender::new`].
    pub(super) fn new() -> io::Result<Self> {
        Sender::new().map(Self)
    }

    /// Sends one challenge to the client of a flow that is still in the flow table. `attempt`
    /// counts the challenges, from 0.
    pub(super) fn challenge(&self, flow: &FlowEntry, attempt: u32) {
        let (family, packet) = match flow.key.source {
            SocketAddr::V4(_) => (4, raw_socket::challenge(&flow.key.as_key::<V4>(), attempt)),
            SocketAddr::V6(_) => (6, raw_socket::challenge(&flow.key.as_key::<V6>(), attempt)),
        };
        if let Err(error) = self.0.send(family, &packet) {
            tracing::debug!(%error, client = %flow.key.source, "a challenge was not sent");
        }
    }

    /// Sends the challenges to the client of a flow that was just ended: later ones are impossible.
    /// Of two consecutive attempts at most one is inside the client's window and stays without a
    /// reply. A client does not reply twice: its first reply is met by an RST.
    pub(super) fn challenge_ended(&self, flow: &FlowEntry) {
        for attempt in 0..2 {
            self.challenge(flow, attempt);
        }
    }
}
