//! A SYN that comes again, because nobody answered it.

use lb_common::{
    Backend, Event, Phase, Scheduler,
    flow::Tally,
    flow_table::{Cells as _, Meta},
    signals::PATIENCE,
};

use super::{counts, mode, now, signals};
use crate::{family::Stages, maps::SERVICES, parse::Parsed, select, stats};

/// Whether a packet is the SYN of its flow once more, of which the worker's answers would pass here.
#[inline(always)]
pub fn repeats<F: Stages>(meta: Meta, backend: &Backend, parsed: &Parsed<F>) -> bool {
    parsed.is_syn() && matches!(meta.phase(), Phase::Opening) && mode(backend).translates()
}

/// Notes that the SYN in the room comes again, and chooses another backend where that seems better. Returns 1 where it did:
/// the room tells that backend, and the flow in the room, which is counted no more, is to be released.
#[inline(always)]
pub fn reschedule<F: Stages>() -> u32 {
    let Some(room) = F::room() else { return 0 };
    let (meta, now) = (room.flow.hit.meta, now());
    if meta.idle(now) < PATIENCE {
        return 0;
    }
    let Some(signals) = signals::unanswered(meta.backend()) else {
        return 0;
    };
    let Some(backend) = room.flow.backend() else { return 0 };
    let Some(service) = SERVICES.get(backend.service) else {
        return 0;
    };
    let ring = select::ring(service);
    // A client that shall stay with its worker leaves it only when others find no answer either.
    let stays = matches!(ring.scheduler(), Some(Scheduler::SourceHash)) || signals.has_answered_since(meta.last_seen());
    if stays && !signals.is_suspect() {
        return 0;
    }
    let Some(other) = select::other(&room.parsed, service, ring, meta.backend()) else {
        return 0;
    };
    // An answer that comes at this very moment was faster, and the flow stays where it is.
    let (Some(cells), Some(offset)) = (room.flow.cells(), room.flow.hit.meta_offset()) else {
        return 0;
    };
    if !cells.swap_u64(offset, meta.0, meta.touched(Phase::Reset, now).0) {
        return 0;
    }
    counts::moved(&room.flow.hit, backend, Tally::Embryonic, Tally::None);
    stats::event(Event::Rescheduled);
    room.chosen.service = backend.service;
    room.chosen.backend = other;
    room.chosen.is_tracked = 1;
    1
}
