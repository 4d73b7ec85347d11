//! The two entries of a flow of a mode that translates, kept together.

use lb_common::{
    Backend, Event, Phase,
    flow::{Direction, Tally},
    flow_table::{self, Cells, Hit},
    wire::{tcp, udp},
};

use super::{Flow, bound, counts, mode, signals};
use crate::{family::Stages, maps::BACKENDS, room::Room, stats};

/// Whether two entries are of one flow.
#[inline(always)]
fn is_pair<F: Stages>(one: &Hit<F>, other: &Hit<F>) -> bool {
    one.meta.backend() == other.meta.backend()
        && one.meta.generation() == other.meta.generation()
        && one.address == other.address
        && one.ports == other.ports
        && (one.bind.0 ^ other.bind.0) & flow_table::Bind::ANSWERS == 0
}

/// Looks for the other direction's entry of the same flow, into `room.other`. Says whether it found it.
#[inline(always)]
fn other<F: Stages>(hit: &Hit<F>, backend: &Backend, room: &mut Room<F>) -> bool {
    let key = &mut room.other_key;
    let found = match hit.meta.direction() {
        Direction::ToWorker => {
            bound::put_answer_key(key, backend, hit.bind, &hit.address, hit.ports, hit.meta.is_udp());
            F::search_answer(key, &mut room.other)
        }
        Direction::ToClient => {
            key.source = hit.address;
            key.destination = F::narrow(&backend.virtual_address);
            key.ports = hit.ports;
            key.protocol = if hit.meta.is_udp() {
                udp::PROTOCOL
            } else {
                tcp::PROTOCOL
            };
            key.reserved = [0; 3];
            F::search_flow(key, &mut room.other)
        }
    };
    found != 0 && is_pair(hit, &room.other.hit)
}

/// Counts a client's packet that changed the phase, and lets the answers' entry follow. Returns 1 where there is one.
#[inline(always)]
pub fn changed<F: Stages>(flow: &Flow<F>, before: u32, after: u32) -> u32 {
    let (Some(backend), Some(room)) = (flow.backend(), F::room()) else {
        return 0;
    };
    let (before, after) = (Phase::from_number(before), Phase::from_number(after));
    counts::moved(&flow.hit, backend, before.tally(), after.tally());
    if !mode(backend).translates() || !other(&flow.hit, backend, room) {
        return 0;
    }
    follow(&room.other, after);
    1
}

/// Notes a worker's packet that may change the phase. Returns 1 where its flow is there.
#[inline(always)]
pub fn answered<F: Stages>(answers: &Flow<F>, flags: u8) -> u32 {
    let (Some(backend), Some(room)) = (answers.backend(), F::room()) else {
        return 0;
    };
    if !other(&answers.hit, backend, room) {
        return 0;
    }
    let flow = &room.other;
    let Some(cells) = flow.cells() else { return 0 };
    let now = flow.hit.meta.last_seen();
    let touched = flow_table::touch(cells, &flow.hit, now, |phase| phase.after(Direction::ToClient, flags));
    if let Some(touched) = touched
        && touched.before as u32 != touched.after as u32
    {
        signals::answered(&flow.hit, touched.before, flags);
        counts::moved(&flow.hit, backend, touched.before.tally(), touched.after.tally());
        follow(answers, touched.after);
    }
    1
}

/// Gives the answers' entry the phase of its flow.
#[inline(always)]
fn follow<F: Stages>(answers: &Flow<F>, phase: Phase) {
    if let Some(cells) = answers.cells() {
        flow_table::touch(cells, &answers.hit, super::now(), |_| phase);
    }
}

/// Forgets a flow, in both directions. Returns 1 where this CPU did it.
#[inline(always)]
pub fn released<F: Stages>(flow: &Flow<F>) -> u32 {
    let (Some(backend), Some(cells)) = (flow.backend(), flow.cells()) else {
        return 0;
    };
    // Whoever takes the entry takes the flow out of the count, so it is taken out once.
    let Some(last) = flow_table::release(cells, &flow.hit) else {
        return 0;
    };
    counts::moved(&flow.hit, backend, last.phase().tally(), Tally::None);
    end_other(&flow.hit, backend);
    1
}

/// Ends the other direction's entry of a flow, if it has one.
#[inline(always)]
fn end_other<F: Stages>(hit: &Hit<F>, backend: &Backend) {
    let Some(room) = F::room() else { return };
    if !mode(backend).translates() || !other(hit, backend, room) {
        return;
    }
    let found = &room.other;
    if let Some(cells) = found.cells()
        && let Some(last) = flow_table::release(cells, &found.hit)
        && matches!(last.direction(), Direction::ToWorker)
    {
        counts::moved(&found.hit, backend, last.phase().tally(), Tally::None);
    }
}

/// Takes the entry that gave way, at `by` in the room, out of the counts, and its other direction out of the table. Returns 1 where its backend
/// is there.
#[inline(always)]
pub fn evicted<F: Stages>(by: u32) -> u32 {
    let Some(room) = F::room() else { return 0 };
    let hit = &room.evicted[(by & 1) as usize];
    stats::event(match hit.meta.phase().tally() {
        Tally::None => Event::EvictedClosed,
        Tally::Embryonic => Event::EvictedEmbryonic,
        Tally::Active => Event::EvictedExpired,
    });
    let Some(backend) = BACKENDS.get(hit.meta.backend()) else {
        return 0;
    };
    if matches!(hit.meta.direction(), Direction::ToWorker) {
        counts::moved(hit, backend, hit.meta.phase().tally(), Tally::None);
    }
    end_other(hit, backend);
    1
}

/// Remembers in both entries where the client's packets come from. Returns 1 where both are there.
#[inline(always)]
pub fn hop_changed<F: Stages>(flow: &Flow<F>, hop: u32) -> u32 {
    let (Some(backend), Some(room)) = (flow.backend(), F::room()) else {
        return 0;
    };
    swap_hop(flow, hop);
    if !other(&flow.hit, backend, room) {
        return 0;
    }
    swap_hop(&room.other, hop);
    1
}

#[inline(always)]
fn swap_hop<F: Stages>(flow: &Flow<F>, hop: u32) {
    let bind = flow.hit.bind;
    // A lost race means that another packet of the client just said the same.
    if let (Some(cells), Some(offset)) = (flow.cells(), flow.hit.bind_offset()) {
        cells.swap_u32(offset, bind.0, bind.with_hop(hop).0);
    }
}
