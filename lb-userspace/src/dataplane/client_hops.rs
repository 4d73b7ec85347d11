//! Client hops: where clients' packets come from and replies go, and what happens when an interface
//! is removed.

use std::{collections::HashSet, io};

use lb_common::{NextHop, maps, next_hop::ClientHop};
use nix::net::if_::if_nameindex;

use super::{Access, DataplaneError, Pins, SharedArray, tables};

/// The map of client hops.
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

    /// Invalidates hops through interfaces that do not exist any more: the kernel routes replies
    /// until the client sends again. Returns the number of hops.
    ///
    /// # Errors
    ///
    /// When the kernel cannot list the interfaces.
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
            // The interface changes in one write: a packet finds either the whole hop or none.
            self.0.update(*index, &ClientHop { hop, ..*entry });
        }
        Ok(missing.len())
    }
}
