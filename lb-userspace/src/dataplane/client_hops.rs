//! Where clients' packets came from, when an interface has gone.

use std::{collections::HashSet, io};

use lb_common::{NextHop, maps, next_hop::ClientHop};
use nix::net::if_::if_nameindex;

use super::{Access, DataplaneError, Pins, SharedArray, tables};

/// The ways back to clients.
pub struct ClientHops(SharedArray<ClientHop>);

impl ClientHops {
    /// Opens the map.
    ///
    /// # Errors
    ///
    /// When it is not pinned, or has another layout.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        tables::shared(pins, maps::CLIENT_HOPS, Access::Write).map(Self)
    }

    /// Lets ways by interfaces that are no more lead nowhere, so that answers are routed until the client speaks again.
    /// Says how many there were.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell which interfaces there are.
    pub fn forget_missing(&self) -> io::Result<usize> {
        let present: HashSet<u32> = if_nameindex()?.iter().map(|interface| interface.index()).collect();
        let missing: Vec<_> = (0..self.0.len())
            .filter_map(|index| Some((index, self.0.read(index)?)))
            .filter(|(_, entry)| entry.state != ClientHop::WRITING && entry.hop.is_resolved())
            .filter(|(_, entry)| !present.contains(&entry.hop.ifindex))
            .collect();
        for (index, entry) in &missing {
            let hop = NextHop {
                ifindex: 0,
                ..entry.hop
            };
            // The interface goes in one write; a packet finds the whole way or none.
            self.0.update(*index, &ClientHop { hop, ..*entry });
        }
        Ok(missing.len())
    }
}
