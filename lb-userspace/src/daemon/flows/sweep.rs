//! Walks through the flow table: ends flows that are silent, tells clients of dead backends, corrects counts.

use std::collections::HashMap;

use lb_common::{BackendStatus, OnBackendDown, flow::Tally, wire::tcp};

use super::drift::Drift;
use crate::dataplane::{DataplaneError, Tables, flows::FlowEntry};
use lb_core::config::Timeouts;
use lb_core::flows::aging::{Fate, Situation, fate};

/// In how many walks every entry of the answers' direction is compared once with its flow.
const PAIR_TURNS: u64 = 16;
/// Every how many walks the marks of spilled buckets may be renewed.
const SPILL_TURNS: u64 = 32;
/// From which part of all buckets on that is worth it.
const SPILLED: u64 = 64;
/// How long such an entry must have been silent, in ticks: longer than any packet takes that is just creating its flow.
const PAIR_AGE: u32 = 80;

/// What a walk found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries of IPv4 and of IPv6.
    pub entries: [u64; 2],
    /// Flows that were ended.
    pub ended: u64,
    /// Clients that were nudged.
    pub nudged: u64,
    /// Backends and services whose counts were corrected.
    pub corrected: u64,
}

/// Walks through the flow table again and again; keeps what it needs from walk to walk.
#[derive(Default)]
pub struct Sweeper {
    turn: u64,
    drift: Drift,
    hops: super::hops::Unused,
}

impl Sweeper {
    /// Walks once. `timeouts` says them by the index of the service; a service that it does not know has the default
    /// ones. `tell` is called for each client that should learn that its backend is down, or has left.
    ///
    /// # Errors
    ///
    /// When the clock cannot be read.
    pub fn sweep(
        &mut self,
        tables: &Tables,
        timeouts: impl Fn(u32) -> Timeouts,
        mut tell: impl FnMut(&FlowEntry, Fate),
    ) -> Result<Swept, DataplaneError> {
        self.turn += 1;
        let now = tables.clock.now().map_err(|cause| DataplaneError::Map {
            name: "clock".to_owned(),
            cause: cause.into(),
        })?;
        let tick = tables.clock.tick();
        let mut known: HashMap<u32, Timeouts> = HashMap::new();
        let mut swept = Swept::default();
        let mut drift = self.drift.begin();
        tables.for_each_flow(|flow| {
            swept.entries[usize::from(flow.key.source.is_ipv6())] += 1;
            self.hops.used(flow.hop);
            if !flow.to_worker {
                let turn = u64::from(flow.rewrite.destination.port()) % PAIR_TURNS;
                if turn == self.turn % PAIR_TURNS && flow.idle(now) > PAIR_AGE {
                    pair(tables, &flow);
                }
                return;
            }
            let backend = status(tables, flow.backend);
            let timeouts = known.entry(flow.service).or_insert_with(|| timeouts(flow.service));
            let mut situation = Situation {
                phase: flow.phase,
                protocol: flow.key.protocol,
                idle: tick * flow.idle(now),
                is_current: flow.is_current,
                backend: backend.state(),
                on_backend_down: policy(tables, flow.service),
                timeouts,
            };
            let mut end = fate(&situation);
            if end != Fate::Keep && flow.mode.translates() {
                // Its answers may have come since.
                if let Some(answers) = tables.other_direction(&flow) {
                    situation.idle = tick * answers.idle(now).min(flow.idle(now));
                    end = fate(&situation);
                }
            }
            match end {
                Fate::End | Fate::Dismiss if finish(tables, &flow) => {
                    swept.ended += 1;
                    if end == Fate::Dismiss && flow.key.protocol == tcp::PROTOCOL && flow.mode.translates() {
                        swept.nudged += 1;
                        tell(&flow, end);
                    }
                    return;
                }
                Fate::Nudge => {
                    swept.nudged += 1;
                    tell(&flow, end);
                }
                Fate::End | Fate::Dismiss | Fate::Keep => {}
            }
            if situation.is_current {
                drift.count(flow.backend, flow.service, flow.phase.tally());
            }
        });
        swept.corrected = self.drift.correct(tables, drift);
        self.hops.free(tables);
        if self.turn.is_multiple_of(SPILL_TURNS) {
            renew_spills(tables);
        }
        Ok(swept)
    }
}

/// A flood that filled the table leaves marks everywhere, and each costs new flows a read of memory.
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

/// Ends a flow in both directions unless a packet came since it was looked at; says whether it did.
pub fn finish(tables: &Tables, flow: &FlowEntry) -> bool {
    let answers = tables.other_direction(flow);
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
    if let Some(answers) = answers {
        // Should an answer have come at this moment, a later walk finds the entry without its flow.
        tables.end_flow(&answers);
    }
    true
}

/// Ends an entry of the answers' direction whose flow is gone, and gives it the phase of its flow where they differ.
fn pair(tables: &Tables, answers: &FlowEntry) {
    match tables.other_direction(answers) {
        None => {
            tables.end_flow(answers);
        }
        Some(flow) if flow.phase != answers.phase => {
            tables.set_flow_phase(answers, flow.phase);
        }
        Some(_) => {}
    }
}
