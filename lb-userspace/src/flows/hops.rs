//! Frees entries of `CLIENT_HOPS` that no flow refers to any more.

use lb_common::{flow_table::bind::HOPS, next_hop::ClientHop};

use crate::dataplane::Tables;

/// Which entries were not used in how many walks.
pub(super) struct Unused {
    /// Walks since an entry was last seen in use.
    since: Vec<u8>,
}

/// After how many walks without use an entry is freed. A packet may just be about to use one.
const WALKS: u8 = 8;

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

    /// Frees what was not used for long enough.
    pub(super) fn free(&mut self, tables: &Tables) {
        for (index, since) in (0..).zip(&mut self.since) {
            *since = since.saturating_add(1);
            if *since > WALKS
                && tables
                    .client_hops
                    .read(index)
                    .is_some_and(|hop| hop.state == ClientHop::VALID)
            {
                tables.client_hops.replace(index, &ClientHop::ZERO);
                *since = 0;
            }
        }
    }
}
