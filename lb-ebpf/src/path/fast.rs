//! The fast path: a packet of a known flow, whose phase does not change.
//!
//! Nothing here calls a function, searches or waits. Every other packet is left to the slow path.

use aya_log_ebpf::trace;
use lb_common::{
    AddressClass, Mode, Options, Outcome, Ports, V4, V6,
    flow::Direction,
    maps,
    service::MAX_SOURCES,
    wire::{eth, tcp, udp},
};

use crate::{
    bpf::{
        counters,
        maps::{NEXT_HOPS, SERVICES},
    },
    family::{Headers as _, Ip},
    flow::{
        backend::{follows, mode},
        client_hop,
        find::{Found, find_flow, find_reply},
        replies::worker_port,
        touch,
    },
    packet::{
        Packet,
        frame::{self, Link},
        parsed::{self, Parsed},
    },
    stages::{
        emit,
        lookup::{may_be_reply, read},
        rewrite::{nat, tunnel},
    },
    vrrp,
};

/// An outcome, or the reason why another program continues.
type Decision = Result<Outcome, Exit>;
const SLOW: Decision = Err(Exit::Slow);

/// Why a packet leaves the fast path early.
enum Exit {
    /// Its outcome is known.
    Outcome(Outcome),
    /// It continues on the slow path.
    Slow,
    /// It can be an advert, an echo, an ARP request or a neighbour solicitation.
    Vrrp,
}

impl From<Outcome> for Exit {
    #[inline(always)]
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

/// The outcome of a packet, or the index in the map `PROGRAMS` of the program that continues with
/// it.
#[inline(always)]
pub fn run(packet: &Packet) -> Result<Outcome, u32> {
    let (decision, program) = match frame::link(packet) {
        Ok(link) if link.kind == V4::ETHER_TYPE => (steer::<V4>(packet, &link), maps::SLOW_V4),
        Ok(link) if link.kind == V6::ETHER_TYPE => (steer::<V6>(packet, &link), maps::SLOW_V6),
        Ok(link) if link.kind == eth::ARP.to_be() => return Err(maps::VRRP),
        Ok(_) => return Ok(Outcome::NotIp),
        Err(outcome) => return Ok(outcome),
    };
    match decision {
        Ok(outcome) | Err(Exit::Outcome(outcome)) => Ok(outcome),
        Err(Exit::Slow) => Err(program),
        Err(Exit::Vrrp) => Err(maps::VRRP),
    }
}

#[inline(always)]
fn steer<F: Ip>(packet: &Packet, link: &Link) -> Decision {
    let mut parsed = Parsed::<F>::BLANK;
    if let Err(outcome) = read(packet, link, &mut parsed) {
        return Err(leave(&parsed, outcome.into()));
    }
    if parsed.transport.fragment != 0 || !matches!(parsed.key.protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        return Err(leave(&parsed, Exit::Slow));
    }
    parsed::transport(packet, &mut parsed)?;
    if may_be_reply(&parsed) {
        return match find_reply(&parsed.key) {
            Some(found) => to_client(packet, &parsed, &found),
            None => SLOW,
        };
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(leave(&parsed, Outcome::NotOurs.into()));
    }
    // A new connection, or a retransmitted SYN.
    if parsed.is_syn() {
        return SLOW;
    }
    match find_flow(&parsed.key) {
        Some(found) if follows(&parsed, found.flow.hit.meta, found.backend) => to_worker(packet, &parsed, &found),
        _ => SLOW,
    }
}

/// How a packet without a flow leaves.
#[inline(always)]
fn leave<F: Ip>(parsed: &Parsed<F>, otherwise: Exit) -> Exit {
    if vrrp::concerns(parsed) { Exit::Vrrp } else { otherwise }
}

#[inline(always)]
fn to_worker<F: Ip>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Decision {
    let Found { flow, backend, cells } = found;
    let hit = &flow.hit;
    let mode = mode(backend);
    let length = parsed.transport.packet_length;
    let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
    let fits = hop.mtu == 0 || length + backend.overhead as usize <= hop.mtu as usize;
    if !fits || !hop.is_resolved() || touch::changes_phase(hit.meta, backend, parsed) {
        return SLOW;
    }
    if mode.translates() {
        // Segments of the handshake may get an option.
        let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
        if service.options & Options::TOA != 0 && !parsed.is_udp() && hit.meta.phase().is_embryonic() {
            return SLOW;
        }
        let origin = frame::origin(packet, parsed.tags)?;
        if !client_hop::leads_to(hit.binding.hop(), &origin) {
            return SLOW;
        }
    }
    if !mode.encapsulates() && !parsed.tags.is_same_vlan(hop.tags) {
        return SLOW;
    }
    touch::note_time(*cells, hit);
    counters::count_backend(hit.meta.backend(), Direction::ToWorker, length as u32);
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
            let source = F::view(&service.sources[hit.binding.source() as usize & (MAX_SOURCES - 1)]);
            let ports = Ports::new(hit.binding.port(), worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, source, worker, ports)?;
        }
        Mode::Dnat => {
            let ports = Ports::new(parsed.key.ports.source(), worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, &parsed.key.source, worker, ports)?;
        }
        Mode::Dsr => {}
        Mode::Ipip | Mode::Gue => {
            tunnel::encapsulate(packet, parsed, backend, mode, hop)?;
            return Ok(emit::leave(packet, hop));
        }
    }
    frame::write_addresses(packet, hop)?;
    Ok(emit::leave(packet, hop))
}

#[inline(always)]
fn to_client<F: Ip>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Decision {
    let Found { flow, backend, cells } = found;
    let hit = &flow.hit;
    let Some(hop) = client_hop::get(hit.binding.hop()) else {
        return SLOW;
    };
    let is_current = hit.meta.is_generation(backend.status.generation());
    if !is_current || touch::reply_may_change_phase(hit.meta, parsed) || !parsed.tags.is_same_vlan(hop.tags) {
        return SLOW;
    }
    touch::note_time(*cells, hit);
    counters::count_backend(
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
    frame::write_addresses(packet, hop)?;
    Ok(emit::leave(packet, hop))
}
