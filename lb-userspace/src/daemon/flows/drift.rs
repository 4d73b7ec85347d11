//! Corrects the numbers of flows of backends and services by what the table holds.

use std::collections::HashMap;

use lb_common::flow::Tally;

use crate::dataplane::Tables;

/// Flows of a backend: embryonic and active.
type Counts = (i64, i64);

/// In how many walks in a row numbers are off by the same amount before they are corrected: packets that come during a
/// walk make them differ by a few, and now and then by as many as in the walk before.
const WALKS: u32 = 8;

/// By how much the numbers were off in the last walk, and in how many walks in a row.
#[derive(Default)]
pub(super) struct Drift {
    backends: HashMap<u32, (Counts, u32)>,
    services: HashMap<u32, (i64, u32)>,
}

/// In how many walks something was off by the same amount, with this one.
fn walks<T: PartialEq>(before: Option<&(T, u32)>, off: &T) -> u32 {
    match before {
        Some((known, walks)) if known == off => walks + 1,
        _ => 1,
    }
}

/// What a walk counted.
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

impl Drift {
    /// Begins a walk.
    pub(super) fn begin(&self) -> Counted {
        Counted::default()
    }

    /// Corrects numbers that were off by the same amount in [`WALKS`] walks in a row. Returns how many were corrected.
    pub(super) fn correct(&mut self, tables: &Tables, counted: Counted) -> u64 {
        let mut corrected = 0;
        let before = std::mem::take(self);
        for index in 0..tables.loads.len() {
            let Some(load) = tables.loads.read(index) else { break };
            let (embryonic, active) = counted.backends.get(&index).copied().unwrap_or_default();
            // The numbers wrap, so a negative one shows as a very large number.
            let off = (
                embryonic - i64::from(load.embryonic as i32),
                active - i64::from(load.active as i32),
            );
            if off == (0, 0) {
                continue;
            }
            let walks = walks(before.backends.get(&index), &off);
            if walks >= WALKS {
                tables.loads.adjust(index, off.0 as i32, off.1 as i32);
                corrected += 1;
            } else {
                self.backends.insert(index, (off, walks));
            }
        }
        for index in 0..tables.service_states.len() {
            let Some(state) = tables.service_states.read(index) else {
                break;
            };
            let off = counted.services.get(&index).copied().unwrap_or_default() - i64::from(state.flows as i32);
            if off == 0 {
                continue;
            }
            let walks = walks(before.services.get(&index), &off);
            if walks >= WALKS {
                tables.service_states.adjust_flows(index, off as i32);
                corrected += 1;
            } else {
                self.services.insert(index, (off, walks));
            }
        }
        corrected
    }
}
