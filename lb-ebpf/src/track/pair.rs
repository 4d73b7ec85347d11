//! The two entries of a flow of a mode that translates, kept together.

use lb_common::{
    Backend, Event, FlowKey, Phase,
    flow::{Direction, Tally},
    flow_table::{self, Cells, Hit, Layout},
    wire::{tcp, udp},
};

use super::{Flow, Found, bound, counts, mode, search, search_answer};
use crate::{family::Stages, maps::BACKENDS, stats};

/// The 5-tuple of a flow's client's packets.
#[inline(always)]
pub fn client_key<F: Stages>(hit: &Hit<F>, backend: &Backend) -> FlowKey<F> {
    FlowKey {
        source: hit.address,
        destination: F::narrow(&backend.virtual_address),
        ports: hit.ports,
        protocol: if hit.meta.is_udp() {
            udp::PROTOCOL
        } else {
            tcp::PROTOCOL
        },
        reserved: [0; 3],
    }
}

/// The 5-tuple of a flow's worker's packets.
#[inline(always)]
pub fn answer_key<F: Stages>(hit: &Hit<F>, backend: &Backend) -> FlowKey<F> {
    bound::answer_key::<F>(backend, hit.bind, &hit.address, hit.ports, hit.meta.is_udp())
}

/// Whether two entries are of one flow.
#[inline(always)]
fn is_pair<F: Stages>(one: &Hit<F>, other: &Hit<F>) -> bool {
    one.meta.backend() == other.meta.backend()
        && one.meta.generation() == other.meta.generation()
        && one.address == other.address
        && one.ports == other.ports
        && (one.bind.0 ^ other.bind.0) & flow_table::Bind::ANSWERS == 0
}

/// Looks for the other direction's entry of the same flow. Says whether it found it.
#[inline(always)]
fn other<F: Stages>(hit: &Hit<F>, backend: &Backend, found: &mut Found<F>) -> bool {
    let is_there = match hit.meta.direction() {
        Direction::ToWorker => search_answer(&answer_key(hit, backend), found),
        Direction::ToClient => search(&client_key(hit, backend), found),
    };
    is_there && is_pair(hit, &found.flow.hit)
}

/// Counts a client's packet that changed the phase, and lets the answers' entry follow. Always true.
#[inline(never)]
pub fn changed<F: Stages>(flow: &Flow<F>, backend: &'static Backend, before: Phase, after: Phase) -> bool {
    counts::moved(&flow.hit, backend, before.tally(), after.tally());
    let Some(mut answers) = Found::blank() else {
        return false;
    };
    if mode(backend).translates() && other(&flow.hit, backend, &mut answers) {
        follow(&answers.flow, after);
    }
    true
}

/// Notes a worker's packet that may change the phase. Says whether its flow is there.
#[inline(never)]
pub fn answered<F: Stages>(answers: &Flow<F>, backend: &'static Backend, flags: u8) -> bool {
    let Some(mut found) = Found::blank() else {
        return false;
    };
    if !other(&answers.hit, backend, &mut found) {
        return false;
    }
    let flow = &found.flow;
    let now = flow.hit.meta.last_seen();
    let touched = flow_table::touch(flow.bucket, &flow.hit, now, |phase| {
        phase.after(Direction::ToClient, flags)
    });
    if let Some(touched) = touched
        && touched.before as u32 != touched.after as u32
    {
        counts::moved(&flow.hit, backend, touched.before.tally(), touched.after.tally());
        follow(answers, touched.after);
    }
    true
}

/// Gives the answers' entry the phase of its flow.
#[inline(always)]
fn follow<F: Stages>(answers: &Flow<F>, phase: Phase) {
    let seen = answers.hit.meta.last_seen();
    flow_table::touch(answers.bucket, &answers.hit, seen, |_| phase);
}

/// Forgets a flow, in both directions. Says whether this CPU did it.
#[inline(never)]
pub fn release<F: Stages>(flow: &Flow<F>, backend: &'static Backend) -> bool {
    // Whoever takes the entry takes the flow out of the count, so it is taken out once.
    let Some(last) = flow_table::release(flow.bucket, &flow.hit) else {
        return false;
    };
    counts::moved(&flow.hit, backend, last.phase().tally(), Tally::None);
    let Some(mut answers) = Found::blank() else {
        return false;
    };
    if mode(backend).translates() && other(&flow.hit, backend, &mut answers) {
        flow_table::release(answers.flow.bucket, &answers.flow.hit);
    }
    true
}

/// Takes an entry that gave way to another flow out of the counts, and its other direction out of the table. Says
/// whether that was there.
#[inline(never)]
pub fn evicted<F: Stages>(hit: &Hit<F>) -> bool {
    stats::event(match hit.meta.phase().tally() {
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
    if !mode(backend).translates() {
        return false;
    }
    let Some(mut found) = Found::blank() else {
        return false;
    };
    if !other(hit, backend, &mut found) {
        return false;
    }
    if let Some(last) = flow_table::release(found.flow.bucket, &found.flow.hit)
        && matches!(last.direction(), Direction::ToWorker)
    {
        counts::moved(&found.flow.hit, backend, last.phase().tally(), Tally::None);
    }
    true
}

/// Remembers in both entries where the client's packets come from. Says whether both are there.
#[inline(never)]
pub fn note_hop<F: Stages>(flow: &Flow<F>, backend: &'static Backend, hop: u32) -> bool {
    swap_hop(flow, hop);
    let Some(mut answers) = Found::blank() else {
        return false;
    };
    if !other(&flow.hit, backend, &mut answers) {
        return false;
    }
    swap_hop(&answers.flow, hop);
    true
}

#[inline(always)]
fn swap_hop<F: Stages + Layout>(flow: &Flow<F>, hop: u32) {
    let bind = flow.hit.bind;
    // A lost race means that another packet of the client just said the same.
    flow.bucket
        .swap_u32(F::bind(flow.hit.way), bind.0, bind.with_hop(hop).0);
}
