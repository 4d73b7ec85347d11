//! The two entries of a flow of a mode that translates, kept together.

use lb_common::{
    Backend, Event, Phase,
    flow::{Direction, Tally},
    flow_table::{self, Binding, Cells, Hit, Layout},
    wire::{tcp, udp},
};

use super::{
    backend::mode,
    clock::now,
    counts,
    entry::Flow,
    find::{search_flow, search_reply},
    replies,
    scratch::{Scratch, scratch},
    signals,
};
use crate::{
    bpf::{counters, maps::BACKENDS},
    family::{Ip, subprogram::subprogram},
};

subprogram! {
    /// Counts a client's packet that changed the phase, and gives the entry for replies the same
    /// phase. Returns whether there is one.
    pub fn flow_changed<F>(flow: in Flow; before: Phase, after: Phase) -> bool = changed;
}

subprogram! {
    /// Notes a worker's reply that can change the phase. Returns whether its flow exists.
    pub fn flow_answered<F>(replies: in Flow; flags: u8) -> bool = answered;
}

subprogram! {
    /// Ends a flow in both directions. Returns whether this CPU ended it.
    pub fn flow_released<F>(flow: in Flow) -> bool = released;
}

subprogram! {
    /// Removes the evicted entry at `by` in the scratch memory from the counts, and the entry of
    /// its other direction from the table. Returns whether its backend exists.
    pub fn flow_evicted<F>(; by: usize) -> bool = evicted;
}

subprogram! {
    /// Writes the client hop into both entries. Returns whether both exist.
    pub fn flow_hop_changed<F>(flow: in Flow; hop: u32) -> bool = hop_changed;
}

/// Whether two entries are of one flow.
#[inline(always)]
fn is_pair<F: Layout>(one: &Hit<F>, other: &Hit<F>) -> bool {
    one.meta.backend() == other.meta.backend()
        && one.meta.generation() == other.meta.generation()
        && one.address == other.address
        && one.ports == other.ports
        && (one.binding.0 ^ other.binding.0) & Binding::REPLIES == 0
}

/// Finds the entry of the other direction of a flow, into `scratch.other`. Returns whether it found
/// it.
#[inline(always)]
fn find_other<F: Ip>(hit: &Hit<F>, backend: &Backend, scratch: &mut Scratch<F>) -> bool {
    let key = &mut scratch.other_key;
    let is_found = match hit.meta.direction() {
        Direction::ToWorker => {
            replies::put_key(key, backend, hit.binding, &hit.address, hit.ports, hit.meta.is_udp());
            search_reply(key, &mut scratch.other)
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
            search_flow(key, &mut scratch.other)
        }
    };
    is_found && is_pair(hit, &scratch.other.hit)
}

#[inline(always)]
fn changed<F: Ip>(flow: &Flow<F>, before: Phase, after: Phase) -> bool {
    let (Some(backend), Some(scratch)) = (flow.backend(), scratch::<F>()) else {
        return false;
    };
    counts::moved(&flow.hit, backend, before.tally(), after.tally());
    if !mode(backend).translates() || !find_other(&flow.hit, backend, scratch) {
        return false;
    }
    set_phase(&scratch.other, after);
    true
}

#[inline(always)]
fn answered<F: Ip>(replies: &Flow<F>, flags: u8) -> bool {
    let (Some(backend), Some(scratch)) = (replies.backend(), scratch::<F>()) else {
        return false;
    };
    if !find_other(&replies.hit, backend, scratch) {
        return false;
    }
    let flow = &scratch.other;
    let Some(cells) = flow.cells() else { return false };
    let now = flow.hit.meta.last_seen();
    let touched = flow_table::touch(cells, &flow.hit, now, |phase| phase.after(Direction::ToClient, flags));
    if let Some(touched) = touched
        && touched.before as u32 != touched.after as u32
    {
        signals::answered(&flow.hit, touched.before, flags);
        counts::moved(&flow.hit, backend, touched.before.tally(), touched.after.tally());
        set_phase(replies, touched.after);
    }
    true
}

/// Gives an entry the phase of the other direction.
#[inline(always)]
fn set_phase<F: Ip>(entry: &Flow<F>, phase: Phase) {
    if let Some(cells) = entry.cells() {
        flow_table::touch(cells, &entry.hit, now(), |_| phase);
    }
}

#[inline(always)]
fn released<F: Ip>(flow: &Flow<F>) -> bool {
    let (Some(backend), Some(cells)) = (flow.backend(), flow.cells()) else {
        return false;
    };
    // The CPU that removes the entry removes the flow from the counts: once.
    let Some(last) = flow_table::release(cells, &flow.hit) else {
        return false;
    };
    counts::moved(&flow.hit, backend, last.phase().tally(), Tally::None);
    end_other(&flow.hit, backend);
    true
}

/// Ends the entry of the other direction of a flow, if it has one.
#[inline(always)]
fn end_other<F: Ip>(hit: &Hit<F>, backend: &Backend) {
    let Some(scratch) = scratch::<F>() else { return };
    if !mode(backend).translates() || !find_other(hit, backend, scratch) {
        return;
    }
    let found = &scratch.other;
    if let Some(cells) = found.cells()
        && let Some(last) = flow_table::release(cells, &found.hit)
        && matches!(last.direction(), Direction::ToWorker)
    {
        counts::moved(&found.hit, backend, last.phase().tally(), Tally::None);
    }
}

#[inline(always)]
fn evicted<F: Ip>(by: usize) -> bool {
    let Some(scratch) = scratch::<F>() else { return false };
    let hit = &scratch.evicted[by & 1];
    counters::event(match hit.meta.phase().tally() {
        Tally::None => Event::EvictedClosed,
        Tally::Embryonic => Event::EvictedEmbryonic,
        Tally::Active => Event::EvictedExpired,
    });
    let Some(backend) = BACKENDS.get(hit.meta.backend()) else {
        return false;
    };
    if matches!(hit.meta.direction(), Direction::ToWorker) {
        counts::moved(hit, backend, hit.meta.phase().tally(), Tally::None);
    }
    end_other(hit, backend);
    true
}

#[inline(always)]
fn hop_changed<F: Ip>(flow: &Flow<F>, hop: u32) -> bool {
    let (Some(backend), Some(scratch)) = (flow.backend(), scratch::<F>()) else {
        return false;
    };
    swap_hop(flow, hop);
    if !find_other(&flow.hit, backend, scratch) {
        return false;
    }
    swap_hop(&scratch.other, hop);
    true
}

#[inline(always)]
fn swap_hop<F: Ip>(flow: &Flow<F>, hop: u32) {
    let binding = flow.hit.binding;
    // A lost race means that another packet of the client just wrote the same.
    if let (Some(cells), Some(offset)) = (flow.cells(), flow.hit.binding_offset()) {
        cells.swap_u32(offset, binding.0, binding.with_hop(hop).0);
    }
}
