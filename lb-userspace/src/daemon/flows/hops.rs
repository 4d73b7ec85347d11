//! Frees entries of `CLIENT_HOPS` that no flow refers to any more.

use lb_common::{flow_table::binding::HOPS, next_hop::ClientHop};

use crate::dataplane::Tables;

/// Which entries were not used in how many walks.
pub(super) struct Unused {
    /// Walks since an entry was last seen in use.
    since: Vec<u8>,
}

/// After how many walks without use an entry is announced as leaving.
const WALKS: u8 = 8;
/// After how many it is freed. A packet that found it valid has entered its flow by then, so that the walk between sees that;
/// one that finds it leaving makes it valid first.
const FREED: u8 = WALKS + 2;

impl Default for Unused {
    fn default() -> Self {
        Self { since: vec![0; HOPS] }
    }
}

impl Unused {
    /// A flow refers to the entry.
    pub(super) fn used(&mut self, index: u32) {
        if let Some(since) = self.since.get_mut(index as usize) {
            *since = 0;
        }
    }

    /// Announces and then frees what was not used for long enough. To be called at the end of each walk.
    pub(super) fn free(&mut self, tables: &Tables) {
        let hops = &tables.client_hops;
        for (index, since) in (0..).zip(&mut self.since) {
            if *since == 0 {
                hops.swap_state(index, ClientHop::LEAVING, ClientHop::VALID);
            }
            *since = since.saturating_add(1);
            if *since > WALKS && hops.swap_state(index, ClientHop::VALID, ClientHop::LEAVING) {
                // From now on.
                *since = WALKS + 1;
            } else if *since >= FREED && hops.swap_state(index, ClientHop::LEAVING, ClientHop::FREE) {
                *since = 0;
            }
        }
    }
}
