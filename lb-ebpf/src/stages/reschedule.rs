//! Reschedule: another backend for a flow whose SYN was retransmitted without an answer.

use lb_common::{
    Backend, Event, Phase, Scheduler,
    flow::Tally,
    flow_table::{Cells as _, Meta},
    signals::PATIENCE,
};

use super::select;
use crate::{
    bpf::{counters, maps::SERVICES},
    family::{Ip, subprogram::subprogram},
    flow::{backend::mode, counts, now, scratch::scratch, signals},
    packet::parsed::Parsed,
};

subprogram! {
    /// Notes that the SYN in the scratch memory was retransmitted, and chooses another backend if
    /// that is better. Returns whether it did. Then `chosen` has that backend, and the flow in the
    /// scratch memory, which is no longer counted, must be released.
    pub fn reschedule<F>() -> bool = choose_other;
}

/// Whether a packet is a retransmitted SYN of its flow, and the worker's replies pass through here.
#[inline(always)]
pub fn is_retransmitted<F: Ip>(meta: Meta, backend: &Backend, parsed: &Parsed<F>) -> bool {
    parsed.is_syn() && matches!(meta.phase(), Phase::Opening) && mode(backend).translates()
}

#[inline(always)]
fn choose_other<F: Ip>() -> bool {
    let Some(scratch) = scratch::<F>() else { return false };
    let (meta, now) = (scratch.flow.hit.meta, now());
    if meta.idle(now) < PATIENCE {
        return false;
    }
    let Some(signals) = signals::unanswered(meta.backend()) else {
        return false;
    };
    let Some(backend) = scratch.flow.backend() else {
        return false;
    };
    let Some(service) = SERVICES.get(backend.service) else {
        return false;
    };
    let ring = select::ring(service);
    // With `source-hash`, a client leaves its worker only if the worker ignores other clients too.
    let stays = matches!(ring.scheduler(), Some(Scheduler::SourceHash)) || signals.has_answered_since(meta.last_seen());
    if stays && !signals.is_suspect() {
        return false;
    }
    let Some(other) = select::other(&scratch.parsed, service, ring, meta.backend()) else {
        return false;
    };
    // If the answer arrives at this moment, the swap fails and the flow stays.
    let (Some(cells), Some(offset)) = (scratch.flow.cells(), scratch.flow.hit.meta_offset()) else {
        return false;
    };
    if !cells.swap_u64(offset, meta.0, meta.touched(Phase::Reset, now).0) {
        return false;
    }
    counts::moved(&scratch.flow.hit, backend, Tally::Embryonic, Tally::None);
    counters::event(Event::Rescheduled);
    scratch.chosen.service = backend.service;
    scratch.chosen.backend = other;
    scratch.chosen.is_tracked = 1;
    true
}
