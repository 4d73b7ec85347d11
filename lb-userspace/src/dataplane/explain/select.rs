//! Select: which slot of its ring a service would give to a new flow.

use lb_common::{
    BackendLoad, FlowKey, Ring, RingSlot, Scheduler, Service,
    choice::{self, Load},
    service::MAX_LEAST_CONNECTION,
};

use super::Certainty;
use crate::dataplane::Tables;
use lb_core::text::number;

/// The result of the selection.
pub(super) struct Choice {
    /// Index of the backend; `None`: one of several is drawn at random.
    pub(super) backend: Option<u32>,
    pub(super) certainty: Certainty,
    /// How it was selected, as a sentence.
    pub(super) how: String,
}

/// The slots of a ring.
pub(super) fn slots(tables: &Tables, ring: Ring) -> Vec<RingSlot> {
    let end = ring.offset().saturating_add(ring.length());
    (ring.offset()..end)
        .filter_map(|index| tables.rings.read(index))
        .collect()
}

/// The load of a backend: flows relative to its weight.
pub(super) fn load(tables: &Tables, slot: &RingSlot) -> Load {
    let load = tables.loads.read(slot.backend).unwrap_or(BackendLoad::ZERO);
    Load::new(&load, slot.weight)
}

/// Selects by the scheduler. `slots` must not be empty.
pub(super) fn by_scheduler<F: lb_common::Family>(
    tables: &Tables,
    (index, service): (u32, &Service),
    scheduler: Scheduler,
    slots: &[RingSlot],
    key: &FlowKey<F>,
) -> Choice {
    let length = slots.len() as u32;
    let turn = || {
        let cursor = tables.service_states.read(index).map_or(0, |state| state.cursor);
        choice::by_turn(cursor, length)
    };
    let at = |position: u32| slots.get(position as usize).map(|slot| slot.backend);
    let only = slots.iter().all(|slot| slot.backend == slots[0].backend);
    match scheduler {
        _ if only => Choice {
            backend: at(0),
            certainty: Certainty::Always,
            how: "the ring has only one backend".to_owned(),
        },
        Scheduler::RoundRobin => Choice {
            backend: at(turn()),
            certainty: Certainty::IfNext,
            how: format!("round-robin: slot {} of {length} is next", turn()),
        },
        Scheduler::Maglev | Scheduler::SourceHash => by_hash(service, scheduler, slots, key),
        Scheduler::LeastConnection if length <= MAX_LEAST_CONNECTION => Choice {
            backend: least_loaded(tables, slots, turn()),
            certainty: Certainty::IfNext,
            how: format!(
                "least-connection: fewest flows for its weight of {}",
                number(length, "backend")
            ),
        },
        Scheduler::LeastConnection => Choice {
            backend: None,
            certainty: Certainty::Drawn,
            how: format!("least-connection: the less loaded of two backends drawn from {length}"),
        },
        Scheduler::Random => Choice {
            backend: None,
            certainty: Certainty::Drawn,
            how: format!("random: one of {length} slots is drawn"),
        },
    }
}

/// Selects by the hash. Every balancer with the same ring selects the same.
pub(super) fn by_hash<F: lb_common::Family>(
    service: &Service,
    scheduler: Scheduler,
    slots: &[RingSlot],
    key: &FlowKey<F>,
) -> Choice {
    let length = slots.len() as u32;
    let position = choice::by_hash(scheduler, key, service.source_prefix, length);
    let what = match scheduler {
        Scheduler::SourceHash => format!("the first {} bits of the client's address", service.source_prefix),
        _ => "addresses, ports and protocol".to_owned(),
    };
    Choice {
        backend: slots.get(position as usize).map(|slot| slot.backend),
        certainty: Certainty::Always,
        how: format!("the hash of {what} gives slot {position} of {length}"),
    }
}

/// Compares all slots, from `first` on. Of equal slots the first one wins.
fn least_loaded(tables: &Tables, slots: &[RingSlot], first: u32) -> Option<u32> {
    let (before, after) = slots.split_at(first as usize);
    let mut best = (None, Load::MOST);
    for slot in after.iter().chain(before) {
        let load = load(tables, slot);
        if load.is_below(&best.1) {
            best = (Some(slot.backend), load);
        }
    }
    best.0
}
