//! The way of a packet of a flow that is known and goes on as before.
//!
//! Nothing here calls a function, searches, or waits: what does not fit is left to [`crate::slow`].

use aya_log_ebpf::trace;
use lb_common::{
    AddressClass, Mode, Options, Outcome, Ports, V4, V6,
    flow::Direction,
    maps,
    service::MAX_SOURCES,
    wire::{eth, tcp, udp},
};

use crate::{
    client_hop, emit,
    family::Stages,
    maps::{NEXT_HOPS, SERVICES},
    packet::Packet,
    parse::{self, Link, Parsed},
    pipeline::{follows, may_be_answer, read},
    rewrite::{nat, tunnel},
    stats,
    track::{self, Found},
    vrrp,
};

/// An outcome, for better or worse; or that another program goes on.
type Way = Result<Outcome, Leave>;
const SLOW: Way = Err(Leave::Slow);

/// Why a packet does not go on here.
enum Leave {
    /// Its outcome is this.
    Outcome(Outcome),
    /// It goes the slow way.
    Slow,
    /// It may be about VRRP, or about who has an address.
    Vrrp,
}

impl From<Outcome> for Leave {
    #[inline(always)]
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

/// What becomes of a packet; or where the program of [`crate::slow`] for its family stands in the map `PROGRAMS`.
#[inline(always)]
pub fn run(packet: &Packet) -> Result<Outcome, u32> {
    let (way, program) = match parse::link(packet) {
        Ok(link) if link.kind == V4::ETHER_TYPE => (steer::<V4>(packet, &link), maps::SLOW_V4),
        Ok(link) if link.kind == V6::ETHER_TYPE => (steer::<V6>(packet, &link), maps::SLOW_V6),
        Ok(link) if link.kind == eth::ARP.to_be() => return Err(maps::VRRP),
        Ok(_) => return Ok(Outcome::NotIp),
        Err(outcome) => return Ok(outcome),
    };
    match way {
        Ok(outcome) | Err(Leave::Outcome(outcome)) => Ok(outcome),
        Err(Leave::Slow) => Err(program),
        Err(Leave::Vrrp) => Err(maps::VRRP),
    }
}

#[inline(always)]
fn steer<F: Stages>(packet: &Packet, link: &Link) -> Way {
    let mut parsed = Parsed::<F>::BLANK;
    if let Err(outcome) = read(packet, link, &mut parsed) {
        return Err(leave(&parsed, outcome.into()));
    }
    if parsed.transport.fragment != 0 || !matches!(parsed.key.protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        return Err(leave(&parsed, Leave::Slow));
    }
    parse::transport(packet, &mut parsed)?;
    if may_be_answer(&parsed) {
        return match track::find_answer(&parsed.key) {
            Some(found) => to_client(packet, &parsed, &found),
            None => SLOW,
        };
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(leave(&parsed, Outcome::NotOurs.into()));
    }
    // One that begins a connection, or that comes again because nobody answered it.
    if parsed.is_syn() {
        return SLOW;
    }
    match track::find(&parsed.key) {
        Some(found) if follows(&parsed, found.flow.hit.meta, found.backend) => to_worker(packet, &parsed, &found),
        _ => SLOW,
    }
}

/// How a packet leaves that is no flow's.
#[inline(always)]
fn leave<F: Stages>(parsed: &Parsed<F>, otherwise: Leave) -> Leave {
    if vrrp::concerns(parsed) { Leave::Vrrp } else { otherwise }
}

#[inline(always)]
fn to_worker<F: Stages>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Way {
    let Found { flow, backend, cells } = found;
    let hit = &flow.hit;
    let mode = track::mode(backend);
    let length = parsed.transport.packet_length;
    let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
    let fits = hop.mtu == 0 || length + backend.overhead as usize <= hop.mtu as usize;
    if !fits || !hop.is_resolved() || track::would_change(hit.meta, backend, parsed) {
        return SLOW;
    }
    if mode.translates() {
        // Segments of the handshake may get an option.
        let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
        if service.options & Options::TOA != 0 && !parsed.is_udp() && hit.meta.phase().is_embryonic() {
            return SLOW;
        }
        let origin = emit::origin(packet, parsed.tags)?;
        if !client_hop::leads_to(hit.bind.hop(), &origin) {
            return SLOW;
        }
    }
    if !mode.encapsulates() && !parsed.tags.is_same_vlan(hop.tags) {
        return SLOW;
    }
    track::note_time(*cells, hit);
    stats::count_backend(hit.meta.backend(), Direction::ToWorker, length as u32);
    trace!(
        packet.context(),
        "to worker: backend {}, flags {:x}",
        hit.meta.backend(),
        parsed.flags
    );
    let worker = F::view(&backend.address);
    match mode {
        Mode::Nat => {
            let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
            let source = F::view(&service.sources[hit.bind.source() as usize & (MAX_SOURCES - 1)]);
            let ports = Ports::new(hit.bind.port(), track::worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, source, worker, ports)?;
        }
        Mode::Dnat => {
            let ports = Ports::new(parsed.key.ports.source(), track::worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, &parsed.key.source, worker, ports)?;
        }
        Mode::Dsr => {}
        Mode::Ipip | Mode::Gue => {
            tunnel::encapsulate(packet, parsed, backend, mode, hop)?;
            return Ok(emit::leave(packet, hop));
        }
    }
    emit::write_addresses(packet, hop)?;
    Ok(emit::leave(packet, hop))
}

#[inline(always)]
fn to_client<F: Stages>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Way {
    let Found { flow, backend, cells } = found;
    let hit = &flow.hit;
    let Some(hop) = client_hop::get(hit.bind.hop()) else {
        return SLOW;
    };
    let is_current = hit.meta.is_generation(backend.status.generation());
    if !is_current || track::answer_tells(hit.meta, parsed) || !parsed.tags.is_same_vlan(hop.tags) {
        return SLOW;
    }
    track::note_time(*cells, hit);
    stats::count_backend(
        hit.meta.backend(),
        Direction::ToClient,
        parsed.transport.packet_length as u32,
    );
    trace!(
        packet.context(),
        "to client: backend {}, flags {:x}",
        hit.meta.backend(),
        parsed.flags
    );
    let service = F::view(&backend.virtual_address);
    nat::rewrite(packet, parsed, service, &hit.address, hit.ports.reversed())?;
    emit::write_addresses(packet, hop)?;
    Ok(emit::leave(packet, hop))
}
