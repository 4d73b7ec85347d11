//! One sweep of the flow table: ends silent flows, challenges clients of dead backends, corrects
//! counters.

use std::{collections::HashMap, time::Duration};

use lb_common::{BackendStatus, OnBackendDown, flow::Tally, wire::tcp};

use super::{
    client_hops::UnusedHops,
    drift::{Counted, CounterDrift},
};
use crate::dataplane::{DataplaneError, Tables, flows::FlowEntry};
use lb_core::{
    config::Timeouts,
    flows::aging::{Fate, Situation, fate},
};

/// Sweeps in which each reply entry is compared once with its flow.
const PAIR_TURNS: u64 = 16;
/// Sweeps between two renewals of spill marks.
const SPILL_TURNS: u64 = 32;
/// Spill marks are renewed if more than one bucket in this many is marked.
const SPILLED: u64 = 64;
/// How long a reply entry must have been silent before it is compared, in ticks. It is longer than
/// any packet takes that is just creating its flow.
const PAIR_AGE: u32 = 80;

/// What a sweep found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries of IPv4 and of IPv6.
    pub entries: [u64; 2],
    /// Flows that were ended.
    pub ended: u64,
    /// Clients that were challenged.
    pub challenged: u64,
    /// Counters of backends and services that were corrected.
    pub corrected: u64,
}

/// Sweeps the flow table, and keeps what the next sweep needs.
#[derive(Default)]
pub struct Sweeper {
    turn: u64,
    drift: CounterDrift,
    hops: UnusedHops,
}

impl Sweeper {
    /// Sweeps once. `timeouts` returns the timeouts of the service at an index, or the default ones
    /// where that is unknown. `challenge` is called for each client whose backend is down or has
    /// left.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn sweep(
        &mut self,
        tables: &Tables,
        timeouts: impl Fn(u32) -> Timeouts,
        mut challenge: impl FnMut(&FlowEntry, Fate),
    ) -> Result<Swept, DataplaneError> {
        self.turn += 1;
        let now = tables
            .clock
            .now()
            .map_err(|cause| DataplaneError::map("clock", cause))?;
        let mut sweep = Sweep {
            tables,
            turn: self.turn,
            now,
            tick: tables.clock.tick(),
            timeouts,
            known_timeouts: HashMap::new(),
            counted: Counted::default(),
            swept: Swept::default(),
        };
        tables.for_each_flow(|flow| {
            sweep.swept.entries[usize::from(flow.key.source.is_ipv6())] += 1;
            self.hops.used(flow.hop);
            if flow.to_worker {
                sweep.visit_flow(&flow, &mut challenge);
            } else {
                sweep.visit_reply_entry(&flow);
            }
        });
        let Sweep { mut swept, counted, .. } = sweep;
        swept.corrected = self.drift.correct(tables, &counted);
        self.hops.free(tables);
        if self.turn.is_multiple_of(SPILL_TURNS) {
            renew_spills(tables);
        }
        Ok(swept)
    }
}

/// A sweep in progress.
struct Sweep<'a, T> {
    tables: &'a Tables,
    turn: u64,
    /// Ticks of the flow table's clock.
    now: u32,
    tick: Duration,
    timeouts: T,
    known_timeouts: HashMap<u32, Timeouts>,
    counted: Counted,
    swept: Swept,
}

impl<T: Fn(u32) -> Timeouts> Sweep<'_, T> {
    /// Ends a flow that is silent for too long or whose backend is down, and counts it otherwise.
    fn visit_flow(&mut self, flow: &FlowEntry, challenge: &mut impl FnMut(&FlowEntry, Fate)) {
        let timeouts = &self.timeouts;
        let timeouts = self
            .known_timeouts
            .entry(flow.service)
            .or_insert_with(|| timeouts(flow.service));
        let mut situation = Situation {
            phase: flow.phase,
            protocol: flow.key.protocol,
            idle: self.tick * flow.idle(self.now),
            is_current: flow.is_current,
            backend: status(self.tables, flow.backend).state(),
            on_backend_down: policy(self.tables, flow.service),
            timeouts,
        };
        let mut end = fate(&situation);
        if end != Fate::Keep && flow.mode.translates() {
            // Replies may have arrived since the client's last packet.
            if let Some(reply) = self.tables.other_direction(flow) {
                situation.idle = self.tick * reply.idle(self.now).min(flow.idle(self.now));
                end = fate(&situation);
            }
        }
        let is_current = situation.is_current;
        match end {
            Fate::End | Fate::EndAndChallenge if finish(self.tables, flow) => {
                self.swept.ended += 1;
                let is_translated_tcp = flow.key.protocol == tcp::PROTOCOL && flow.mode.translates();
                if end == Fate::EndAndChallenge && is_translated_tcp {
                    self.swept.challenged += 1;
                    challenge(flow, end);
                }
                return;
            }
            Fate::Challenge => {
                self.swept.challenged += 1;
                challenge(flow, end);
            }
            Fate::End | Fate::EndAndChallenge | Fate::Keep => {}
        }
        if is_current {
            self.counted.count(flow.backend, flow.service, flow.phase.tally());
        }
    }

    /// Compares a silent reply entry with its flow, in one of [`PAIR_TURNS`] sweeps: ends it if the
    /// flow is gone, and gives it the flow's phase if they differ.
    fn visit_reply_entry(&self, reply: &FlowEntry) {
        let turn = u64::from(reply.rewrite.destination.port()) % PAIR_TURNS;
        if turn != self.turn % PAIR_TURNS || reply.idle(self.now) <= PAIR_AGE {
            return;
        }
        match self.tables.other_direction(reply) {
            None => {
                self.tables.end_flow(reply);
            }
            Some(flow) if flow.phase != reply.phase => {
                self.tables.set_flow_phase(reply, flow.phase);
            }
            Some(_) => {}
        }
    }
}

/// Renews the spill marks if many buckets have one. A flood that filled the table leaves marks
/// everywhere, and each mark costs new flows a memory access.
fn renew_spills(tables: &Tables) {
    let (marked, buckets) = tables.spilled_buckets();
    if marked * SPILLED > buckets {
        tables.renew_spills();
    }
}

fn status(tables: &Tables, index: u32) -> BackendStatus {
    tables
        .backends
        .read(index)
        .map_or(BackendStatus(0), |backend| backend.status)
}

fn policy(tables: &Tables, service: u32) -> OnBackendDown {
    tables.services.read(service).map_or(OnBackendDown::Reset, |service| {
        OnBackendDown::from_number(service.on_backend_down)
    })
}

/// Ends both entries of a flow, unless a packet arrived since the entry was read. Returns whether
/// the flow was ended.
pub fn finish(tables: &Tables, flow: &FlowEntry) -> bool {
    let reply = tables.other_direction(flow);
    if !tables.end_flow(flow) {
        return false;
    }
    if flow.meta.is_generation(status(tables, flow.backend).generation()) {
        match flow.phase.tally() {
            Tally::Embryonic => tables.loads.adjust(flow.backend, -1, 0),
            Tally::Active => tables.loads.adjust(flow.backend, 0, -1),
            Tally::None => {}
        }
        if flow.phase.tally() != Tally::None {
            tables.service_states.adjust_flows(flow.service, -1);
        }
    }
    if let Some(reply) = reply {
        // If a reply arrives at this moment, a later sweep ends the entry.
        tables.end_flow(&reply);
    }
    true
}
