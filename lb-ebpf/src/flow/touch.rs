//! Touch: notes the time of a packet, and the phase of the connection after it.

use lb_common::{
    Backend, Phase,
    flow::Direction,
    flow_table::{self, Cells as _, Hit, Layout, Meta},
    wire::tcp,
};

use super::{backend::mode, clock::now, entry::Flow, pair};
use crate::{bpf::bucket::Bucket, family::Ip, packet::parsed::Parsed};

/// The phase after a client's packet.
#[inline(always)]
fn phase_after<F: Layout>(phase: Phase, backend: &Backend, parsed: &Parsed<F>) -> Phase {
    if mode(backend).translates() {
        phase.after(Direction::ToWorker, parsed.flags)
    } else {
        phase.after_one_sided(parsed.flags, parsed.is_udp())
    }
}

/// Whether a client's packet changes the phase of its flow.
#[inline(always)]
pub fn changes_phase<F: Layout>(meta: Meta, backend: &Backend, parsed: &Parsed<F>) -> bool {
    phase_after(meta.phase(), backend, parsed) as u32 != meta.phase() as u32
}

/// Whether a worker's reply can change the phase of its flow.
#[inline(always)]
pub fn reply_may_change_phase<F: Layout>(meta: Meta, parsed: &Parsed<F>) -> bool {
    if parsed.is_udp() {
        matches!(meta.phase(), Phase::Opening)
    } else {
        parsed.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
    }
}

/// Notes the time of a packet.
#[inline(always)]
pub fn note_time<F: Layout>(cells: Bucket, hit: &Hit<F>) {
    let touched = hit.meta.touched(hit.meta.phase(), now());
    // A lost race means that another packet of the flow came at the same time.
    if touched != hit.meta
        && let Some(offset) = hit.meta_offset()
    {
        cells.swap_u64(offset, hit.meta.0, touched.0);
    }
}

/// As [`note_time`].
#[inline(always)]
pub fn note_time_of<F: Ip>(flow: &Flow<F>) {
    if let Some(cells) = flow.cells() {
        note_time(cells, &flow.hit);
    }
}

/// Notes a client's packet: its time, and the phase after it.
#[inline(always)]
pub fn touch<F: Ip>(flow: &Flow<F>, backend: &Backend, parsed: &Parsed<F>) {
    let Some(cells) = flow.cells() else { return };
    let touched = flow_table::touch(cells, &flow.hit, now(), |phase| phase_after(phase, backend, parsed));
    if let Some(touched) = touched
        && touched.before as u32 != touched.after as u32
    {
        pair::flow_changed(flow, touched.before, touched.after);
    }
}
