//! Walks through the flow table: ends flows that are silent, tells clients of dead backends, corrects counts.

use std::collections::HashMap;

use lb_common::{BackendStatus, OnBackendDown, flow::Tally};

use super::aging::{Fate, Situation, fate};
use crate::{
    config::Timeouts,
    dataplane::{
        DataplaneError, Tables, VirtualAddress,
        flows::{self, FlowEntry},
    },
};

/// In how many walks every entry of the answers' direction is checked once for one that nothing refers to.
const ORPHAN_TURNS: u64 = 64;
/// How old such an entry must be, in ticks: older than any packet that is just creating its flow.
const ORPHAN_AGE: u32 = 5000;

/// What a walk found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries of IPv4 and of IPv6.
    pub entries: [u64; 2],
    /// Flows that were ended.
    pub ended: u64,
    /// Clients that were nudged.
    pub nudged: u64,
    /// Backends whose counts were corrected.
    pub corrected: u64,
}

/// Flows of a backend by the table: embryonic and active.
type Counts = (i64, i64);

/// Walks through the flow table again and again; keeps what it needs from walk to walk.
#[derive(Default)]
pub struct Sweeper {
    turn: u64,
    /// By how much each backend's counts were off in the last walk.
    drift: HashMap<u32, Counts>,
}

impl Sweeper {
    /// Walks once. `timeouts` says them for each service; a service that it does not know has the default ones.
    /// `nudge` is called for each client that should learn that its backend is down.
    ///
    /// # Errors
    ///
    /// When a map cannot be read or written; what was done until then stays.
    pub fn sweep(
        &mut self,
        tables: &Tables,
        timeouts: &HashMap<VirtualAddress, Timeouts>,
        mut nudge: impl FnMut(&FlowEntry),
    ) -> Result<Swept, DataplaneError> {
        self.turn += 1;
        let now = flows::now().map_err(|cause| DataplaneError::Map { name: "clock".to_owned(), cause: cause.into() })?;
        let default = Timeouts::default();
        let mut swept = Swept::default();
        let mut counted: HashMap<u32, Counts> = HashMap::new();
        let mut ending = Vec::new();
        let mut orphans = Vec::new();
        tables.flows.for_each(|flow| {
            swept.entries[usize::from(flow.key.source.is_ipv6())] += 1;
            if !flow.to_worker {
                let turn = u64::from(flow.rewrite.destination.port()) % ORPHAN_TURNS;
                if turn == self.turn % ORPHAN_TURNS && flow.idle(now) > ORPHAN_AGE {
                    orphans.push(flow);
                }
                return;
            }
            let backend = status(tables, flow.backend);
            let at = VirtualAddress {
                address: flow.key.destination.ip(),
                port: flow.key.destination.port(),
                protocol: flow.key.protocol,
            };
            let situation = Situation {
                phase: flow.phase,
                protocol: flow.key.protocol,
                idle: flow.idle(now),
                generation: flow.generation,
                backend,
                on_backend_down: policy(tables, flow.service),
                timeouts: timeouts.get(&at).unwrap_or(&default),
            };
            match fate(&situation) {
                Fate::End => ending.push(flow),
                Fate::Nudge => {
                    swept.nudged += 1;
                    nudge(&flow);
                }
                Fate::Keep => {}
            }
            if backend.generation() == flow.generation {
                count(counted.entry(flow.backend).or_default(), flow.phase.tally(), 1);
            }
        })?;
        for flow in ending {
            swept.ended += u64::from(end(tables, &flow, counted.entry(flow.backend).or_default())?);
        }
        for flow in orphans {
            remove_orphan(tables, &flow)?;
        }
        swept.corrected = self.correct(tables, &counted);
        Ok(swept)
    }

    /// Corrects the counts of backends that were off by the same amount in two walks in a row. A single difference
    /// may come from packets that came during the walk.
    fn correct(&mut self, tables: &Tables, counted: &HashMap<u32, Counts>) -> u64 {
        let mut corrected = 0;
        let mut drift = HashMap::new();
        for index in 0..tables.loads.len() {
            let Some(load) = tables.loads.read(index) else { break };
            let (embryonic, active) = counted.get(&index).copied().unwrap_or_default();
            // The counts wrap, so a negative one shows as a very large number.
            let off = (embryonic - i64::from(load.embryonic as i32), active - i64::from(load.active as i32));
            if off == (0, 0) {
                continue;
            }
            if self.drift.get(&index) == Some(&off) {
                tables.loads.adjust(index, off.0 as i32, off.1 as i32);
                corrected += 1;
            } else {
                drift.insert(index, off);
            }
        }
        self.drift = drift;
        corrected
    }
}

fn status(tables: &Tables, index: u32) -> BackendStatus {
    tables.backends.read(index).map_or(BackendStatus(0), |backend| backend.status)
}

fn policy(tables: &Tables, service: u32) -> OnBackendDown {
    tables.services.read(service).map_or(OnBackendDown::Reset, |service| OnBackendDown::from_number(service.on_backend_down))
}

fn count(counts: &mut Counts, tally: Tally, amount: i64) {
    match tally {
        Tally::Embryonic => counts.0 += amount,
        Tally::Active => counts.1 += amount,
        Tally::None => {}
    }
}

/// Ends a flow unless a packet came since it was looked at; says whether it did.
fn end(tables: &Tables, flow: &FlowEntry, counts: &mut Counts) -> Result<bool, DataplaneError> {
    match tables.flows.find(flow.key)? {
        Some(now) if now.last_seen == flow.last_seen && now.rewrite == flow.rewrite => {}
        _ => return Ok(false),
    }
    tables.flows.take(flow.rewrite.reversed())?;
    let Some(last) = tables.flows.take(flow.key)? else { return Ok(false) };
    if status(tables, last.backend).generation() == last.generation {
        match last.phase.tally() {
            Tally::Embryonic => tables.loads.adjust(last.backend, -1, 0),
            Tally::Active => tables.loads.adjust(last.backend, 0, -1),
            Tally::None => {}
        }
        count(counts, flow.phase.tally(), -1);
    }
    Ok(true)
}

/// Removes an entry of the answers' direction when the entry of the client's direction is gone or is another flow's.
fn remove_orphan(tables: &Tables, answers: &FlowEntry) -> Result<(), DataplaneError> {
    let owner = tables.flows.find(answers.rewrite.reversed())?;
    if owner.is_none_or(|owner| owner.rewrite != answers.key.reversed()) {
        tables.flows.take(answers.key)?;
    }
    Ok(())
}
