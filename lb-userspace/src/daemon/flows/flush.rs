//! Ends flows on an operator's request (`lbctl flow flush`).

use lb_common::{flow::Tally, wire::tcp};

use super::{challenge::Challenger, sweep};
use crate::{
    admin::ControlError,
    api::{FlowFilter, Flushed},
    daemon::inspect::Inspector,
    dataplane::{Tables, flows::FlowEntry},
    events::{Events, Happening, Kind},
};
use lb_core::text::number;

/// How often an entry is tried that packets keep changing.
const ATTEMPTS: u32 = 8;

/// Ends flows.
pub(in crate::daemon) struct Flusher {
    tables: Tables,
    challenger: Challenger,
}

impl Flusher {
    pub(in crate::daemon) fn new(tables: Tables) -> std::io::Result<Self> {
        Ok(Self {
            tables,
            challenger: Challenger::new()?,
        })
    }

    /// Ends the flows that match the filter.
    pub(in crate::daemon) fn flush(
        &self,
        inspector: &Inspector,
        filter: &FlowFilter,
        events: &Events,
    ) -> Result<Flushed, ControlError> {
        let now = self.tables.clock.now();
        let now = now.map_err(|error| ControlError::Failed(error.to_string()))?;
        let mut flushed = Flushed::default();
        let names = inspector.names();
        self.tables.for_each_flow(|entry| {
            if !entry.to_worker || !filter.admits(&names.flow(&self.tables, &entry, now)) {
                return;
            }
            // A packet that arrives meanwhile keeps the entry: read it and try again.
            let mut entry = entry;
            for _ in 0..ATTEMPTS {
                if sweep::finish(&self.tables, &entry) {
                    flushed.ended += 1;
                    self.challenge(&entry);
                    return;
                }
                match self.tables.find_flow(entry.key) {
                    Some(again) if again.to_worker => entry = again,
                    _ => return,
                }
            }
            flushed.kept += 1;
        });
        let cause = format!("{} of {filter}", number(flushed.ended, "flow"));
        events.record(Happening::new(Kind::FlowsFlushed, cause));
        Ok(flushed)
    }

    /// Has the client of an ended connection reset now, not with its next request. In modes without
    /// translation its packets go where hashing leads them.
    fn challenge(&self, flow: &FlowEntry) {
        let is_open = flow.phase.tally() != Tally::None;
        if flow.key.protocol == tcp::PROTOCOL && flow.mode.translates() && is_open {
            self.challenger.challenge_ended(flow);
        }
    }
}
