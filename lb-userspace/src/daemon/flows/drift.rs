//! Corrects the flow counters of backends and services by what a sweep counted.

use std::collections::HashMap;

use lb_common::flow::Tally;

use crate::dataplane::Tables;
use lb_core::flows::drift::{Drift, difference};

/// Flows of a backend: embryonic and active.
type Counts = (i64, i64);

/// The drift of all counters.
#[derive(Default)]
pub(super) struct CounterDrift {
    backends: Drift<Counts>,
    services: Drift<i64>,
}

/// The flows that a sweep counted, by index of backend and of service.
#[derive(Default)]
pub(super) struct Counted {
    backends: HashMap<u32, Counts>,
    services: HashMap<u32, i64>,
}

impl Counted {
    /// Counts a flow.
    pub(super) fn count(&mut self, backend: u32, service: u32, tally: Tally) {
        let counts = self.backends.entry(backend).or_default();
        match tally {
            Tally::Embryonic => counts.0 += 1,
            Tally::Active => counts.1 += 1,
            Tally::None => return,
        }
        *self.services.entry(service).or_default() += 1;
    }
}

impl CounterDrift {
    /// Corrects the counters that drifted, see [`Drift::due`]. Returns how many were corrected.
    pub(super) fn correct(&mut self, tables: &Tables, counted: &Counted) -> u64 {
        let loads = (0..tables.loads.len()).map_while(|index| {
            let load = tables.loads.read(index)?;
            let (embryonic, active) = counted.backends.get(&index).copied().unwrap_or_default();
            Some((
                index,
                (difference(embryonic, load.embryonic), difference(active, load.active)),
            ))
        });
        let backends = self.backends.due(loads);
        for (index, (embryonic, active)) in &backends {
            tables.loads.adjust(*index, *embryonic as i32, *active as i32);
        }
        let states = (0..tables.service_states.len()).map_while(|index| {
            let state = tables.service_states.read(index)?;
            let flows = counted.services.get(&index).copied().unwrap_or_default();
            Some((index, difference(flows, state.flows)))
        });
        let services = self.services.due(states);
        for (index, flows) in &services {
            tables.service_states.adjust_flows(*index, *flows as i32);
        }
        (backends.len() + services.len()) as u64
    }
}
