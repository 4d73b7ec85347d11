//! Ends flows at an operator's word.

use lb_common::{flow::Tally, wire::tcp};

use super::inspect::Inspector;
use crate::{
    admin::ControlError,
    api::{FlowFilter, Flushed},
    daemon::flows::{Teller, sweep},
    dataplane::{Tables, flows::FlowEntry},
    events::{Events, Happening, Kind},
};
use lb_core::text::number;

/// What ending flows takes.
pub(super) struct Flusher {
    pub(super) tables: Tables,
    pub(super) teller: Teller,
}

impl Flusher {
    pub(super) fn new(tables: Tables) -> std::io::Result<Self> {
        Ok(Self {
            tables,
            teller: Teller::new()?,
        })
    }

    /// Ends the flows that the filter lets through.
    pub(super) fn flush(
        &self,
        inspector: &Inspector,
        filter: &FlowFilter,
        events: &Events,
    ) -> Result<Flushed, ControlError> {
        let now = self
            .tables
            .clock
            .now()
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        let mut flushed = Flushed::default();
        let namer = inspector.namer();
        self.tables.for_each_flow(|entry| {
            if !entry.to_worker || !filter.admits(&namer.flow(&self.tables, &entry, now)) {
                return;
            }
            // A packet that comes at this moment keeps the entry: look again, and again.
            let mut entry = entry;
            for _ in 0..8 {
                if sweep::finish(&self.tables, &entry) {
                    flushed.ended += 1;
                    self.tell(&entry);
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

    /// Makes the client of an ended connection speak, so that it learns of the end now and not with its next request. In
    /// modes that do not translate, its packets just go where hashing says.
    fn tell(&self, flow: &FlowEntry) {
        let is_open = flow.phase.tally() != Tally::None;
        if flow.key.protocol == tcp::PROTOCOL && flow.mode.translates() && is_open {
            self.teller.dismiss(flow);
        }
    }
}
