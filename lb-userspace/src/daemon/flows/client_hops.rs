//! Frees entries of `CLIENT_HOPS` that no flow refers to.

use lb_common::{flow_table::binding::HOPS, next_hop::ClientHop};

use crate::dataplane::Tables;

/// How long each entry has been without a flow.
pub(super) struct UnusedHops {
    /// Sweeps since the entry was last seen in use, by index of the entry.
    sweeps: Vec<u8>,
}

/// Sweeps without use after which an entry is marked as leaving.
const LEAVING_AFTER: u8 = 8;
/// Sweeps without use after which it is freed. A packet that found the entry valid has written its
/// flow by then, so that the sweep in between sees the use. A packet that finds it leaving makes it
/// valid again first.
const FREED_AFTER: u8 = LEAVING_AFTER + 2;

impl Default for UnusedHops {
    fn default() -> Self {
        Self { sweeps: vec![0; HOPS] }
    }
}

impl UnusedHops {
    /// Notes that a flow refers to the entry.
    pub(super) fn used(&mut self, index: u32) {
        if let Some(sweeps) = self.sweeps.get_mut(index as usize) {
            *sweeps = 0;
        }
    }

    /// Marks and then frees entries that are unused for long enough. To be called at the end of
    /// each sweep.
    pub(super) fn free(&mut self, tables: &Tables) {
        let hops = &tables.client_hops;
        for (index, sweeps) in (0..).zip(&mut self.sweeps) {
            if *sweeps == 0 {
                hops.swap_state(index, ClientHop::LEAVING, ClientHop::VALID);
            }
            *sweeps = sweeps.saturating_add(1);
            if *sweeps > LEAVING_AFTER && hops.swap_state(index, ClientHop::VALID, ClientHop::LEAVING) {
                // The sweeps until it is freed are counted from now on.
                *sweeps = LEAVING_AFTER + 1;
            } else if *sweeps >= FREED_AFTER && hops.swap_state(index, ClientHop::LEAVING, ClientHop::FREE) {
                *sweeps = 0;
            }
        }
    }
}
