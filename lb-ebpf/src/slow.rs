//! The way of every packet that does not just go on as before: it begins a flow, ends one, is a fragment or an ICMP
//! error, has no next hop yet, or is none of ours after all.

use aya_log_ebpf::{debug, trace};
use lb_common::{
    AddressClass, Event, Mode, NextHop, Options, Outcome, Ports, Scheduler,
    flow::Direction,
    flow_table::Bind,
    service::MAX_SOURCES,
    wire::{tcp, udp},
};

use crate::{
    client_hop, emit,
    family::Stages,
    guard, icmp, lookup,
    maps::{BACKENDS, NEXT_HOPS, SERVICES},
    packet::Packet,
    parse::{self, Parsed},
    pipeline::{follows, may_be_answer, read},
    reset,
    rewrite::{nat, tunnel},
    room::Chosen,
    select, stats, toa, too_big,
    track::{self, Flow},
    unusual,
    verdict::settle,
};

/// What becomes of a packet of this family.
#[inline(always)]
pub fn run<F: Stages>(packet: &Packet) -> Outcome {
    settle(|| {
        let link = parse::link(packet)?;
        let mut parsed = Parsed::<F>::BLANK;
        read(packet, &link, &mut parsed)?;
        if parsed.transport.fragment == 0 && matches!(parsed.key.protocol, tcp::PROTOCOL | udp::PROTOCOL) {
            parse::transport(packet, &mut parsed)?;
        } else {
            unusual::read(packet, &mut parsed)?;
        }
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        room.chosen.state = Chosen::NONE;
        let outcome = decide(packet, &parsed)?;
        // One place that sends for all that was decided: the verifier then checks what follows once.
        match room.chosen.state {
            Chosen::NONE => Ok(outcome),
            Chosen::CLIENT => Ok(to_client(packet, &parsed, &room.flow)),
            _ => Ok(to_worker(packet, &parsed, room.chosen.backend, room.chosen.bind)),
        }
    })
}

/// Decides where a packet goes, which the room then tells; where it tells nothing, that is the outcome.
#[inline(always)]
fn decide<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    if parsed.key.protocol == F::ICMP {
        return Ok(icmp::steer(packet, parsed));
    }
    let room = F::room().ok_or(Outcome::Inconsistent)?;
    if may_be_answer(parsed) && F::search_answer(&parsed.key, &mut room.flow) != 0 {
        let flow = &room.flow;
        let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
        if !flow.hit.meta.is_generation(backend.status.generation()) {
            return Err(Outcome::NotOurs);
        }
        track::note_time_of(flow);
        if track::answer_tells(flow.hit.meta, parsed) {
            F::flow_answered(flow, parsed.flags as u32);
        }
        room.chosen.state = Chosen::CLIENT;
        return Ok(Outcome::Forwarded);
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(Outcome::NotOurs);
    }
    room.chosen.is_handshake = !parsed.is_udp() as u32;
    if F::search_flow(&parsed.key, &mut room.flow) != 0 {
        let flow = &room.flow;
        let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
        if follows(parsed, flow.hit.meta, backend) {
            room.chosen.is_handshake &= flow.hit.meta.phase().is_embryonic() as u32;
            room.chosen.backend = flow.hit.meta.backend();
            room.chosen.bind = flow.hit.bind;
            room.chosen.state = Chosen::UNTRACKED;
            track::touch(flow, backend, parsed);
            if track::mode(backend).translates() {
                let origin = emit::origin(packet, parsed.tags)?;
                if client_hop::get(flow.hit.bind.hop()) != Some(&origin) {
                    F::flow_hop_changed(flow, client_hop::intern(&origin));
                }
            }
            return Ok(Outcome::Forwarded);
        }
        F::flow_released(&room.flow);
        if !parsed.is_syn() && !parsed.is_udp() {
            return Ok(reset::answer(packet, parsed, Outcome::ResetBackendDown));
        }
    }
    let outcome = choose(packet, parsed);
    if room.chosen.state != Chosen::TRACKED {
        return Ok(outcome);
    }
    let outcome = enter(packet, parsed);
    track::end_evicted(room);
    Ok(outcome)
}

/// A packet to the backend at `index`. `bind` counts only in `nat`.
#[inline(never)]
pub fn to_worker<F: Stages>(packet: &Packet, parsed: &Parsed<F>, index: u32, bind: Bind) -> Outcome {
    settle(|| {
        let backend = BACKENDS.get(index).ok_or(Outcome::Inconsistent)?;
        let mode = track::mode(backend);
        let length = parsed.transport.packet_length;
        let overhead = backend.overhead as usize;
        let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
        if hop.mtu != 0 && length + overhead > hop.mtu as usize {
            return Ok(too_big::answer(packet, parsed, hop.mtu as usize - overhead));
        }
        stats::count_backend(index, Direction::ToWorker, length as u32);
        trace!(
            packet.context(),
            "to worker: backend {}, flags {:x}", index, parsed.flags
        );
        let worker = F::view(&backend.address);
        match mode {
            Mode::Nat => {
                let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
                if service.options & Options::TOA != 0 && is_handshake::<F>() {
                    toa::insert(packet, parsed, hop.mtu);
                }
                let source = F::view(&service.sources[bind.source() as usize & (MAX_SOURCES - 1)]);
                let ports = Ports::new(bind.port(), track::worker_port(backend, parsed.key.ports));
                nat::rewrite(packet, parsed, source, worker, ports)?;
                send(packet, parsed, hop)
            }
            Mode::Dnat => {
                let ports = Ports::new(parsed.key.ports.source(), track::worker_port(backend, parsed.key.ports));
                nat::rewrite(packet, parsed, &parsed.key.source, worker, ports)?;
                send(packet, parsed, hop)
            }
            Mode::Dsr => {
                if !hop.is_resolved() {
                    return Err(Outcome::NoNextHop);
                }
                emit::to_hop::<F>(packet, parsed.tags, hop)
            }
            Mode::Ipip | Mode::Gue => {
                let l3 = tunnel::encapsulate(packet, parsed, backend, mode, hop)?;
                if hop.is_resolved() {
                    Ok(emit::leave(packet, hop))
                } else {
                    Ok(tunnel::unresolved(packet, backend, l3, length + overhead))
                }
            }
        }
    })
}

/// Whether the packet's connection is not established yet.
#[inline(always)]
fn is_handshake<F: Stages>() -> bool {
    F::room().is_some_and(|room| room.chosen.is_handshake != 0)
}

/// Sends a translated packet.
#[inline(always)]
fn send<F: Stages>(packet: &Packet, parsed: &Parsed<F>, hop: &NextHop) -> Result<Outcome, Outcome> {
    if hop.is_resolved() {
        return emit::to_hop::<F>(packet, parsed.tags, hop);
    }
    let transport = &parsed.transport;
    Ok(emit::unresolved::<F>(
        packet,
        transport.l3,
        transport.packet_length,
        parsed.tags,
    ))
}

/// A worker's packet of a flow that is known.
#[inline(never)]
fn to_client<F: Stages>(packet: &Packet, parsed: &Parsed<F>, flow: &Flow<F>) -> Outcome {
    settle(|| {
        let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
        let hit = &flow.hit;
        let length = parsed.transport.packet_length;
        stats::count_backend(hit.meta.backend(), Direction::ToClient, length as u32);
        trace!(
            packet.context(),
            "to client: backend {}, flags {:x}",
            hit.meta.backend(),
            parsed.flags
        );
        let service = F::view(&backend.virtual_address);
        nat::rewrite(packet, parsed, service, &hit.address, hit.ports.reversed())?;
        let hop = client_hop::get(hit.bind.hop()).unwrap_or(&NextHop::ZERO);
        send(packet, parsed, hop)
    })
}

/// Chooses a backend for a packet without a flow, and begins one. The room then tells the backend; where it does not, the
/// packet is answered, or is not ours, as the outcome says.
#[inline(never)]
fn choose<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Outcome {
    settle(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let (service_index, service) = lookup::service(parsed)?;
        let translates = Mode::from_number(service.mode).is_some_and(Mode::translates);
        let begins = parsed.is_udp() || parsed.is_syn();
        if translates && !begins {
            return Ok(reset::answer(packet, parsed, Outcome::ResetNoFlow));
        }
        if begins {
            guard::admit(parsed, service_index, service)?;
        }
        let ring = select::ring(service);
        let is_flooded = begins && !translates && guard::is_flooded(service_index, service);
        // A packet in the middle of a connection that is not known here goes where the peers would send it too.
        let chosen = if begins && !is_flooded {
            select::backend(parsed, service_index, service, ring)
        } else {
            select::by_hash(parsed, service, ring)
        };
        let Some(index) = chosen else {
            if parsed.is_udp() {
                return Err(Outcome::NoBackend);
            }
            return Ok(reset::answer(packet, parsed, Outcome::ResetNoBackend));
        };
        room.chosen.service = service_index;
        room.chosen.backend = index;
        room.chosen.bind = Bind(0);
        room.chosen.state = Chosen::UNTRACKED;
        // What the ring says again for the next packet needs no entry until the client has answered.
        let repeats = ring.scheduler().is_some_and(Scheduler::is_stateless) && parsed.is_syn();
        if is_flooded {
            stats::event(Event::Flooded);
        } else if translates || parsed.is_udp() || !(repeats || parsed.flags & tcp::RST != 0) {
            room.chosen.state = Chosen::TRACKED;
        }
        Ok(Outcome::Forwarded)
    })
}

/// Enters a flow to the backend that the room tells. The room tells another one where another CPU was faster, and none
/// where the packet has to end as the outcome says.
#[inline(never)]
fn enter<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Outcome {
    settle(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let Chosen { service, backend, .. } = room.chosen;
        room.chosen.state = Chosen::NONE;
        let backend = BACKENDS.get(backend).ok_or(Outcome::Inconsistent)?;
        let translates = track::mode(backend).translates();
        let hop = if translates {
            client_hop::intern(&emit::origin(packet, parsed.tags)?)
        } else {
            0
        };
        match track::claim(parsed, room, backend, hop) {
            Ok(()) => {
                debug!(
                    packet.context(),
                    "new flow: service {}, backend {}", service, room.chosen.backend
                );
            }
            Err(Outcome::FlowTableFull) if !translates => stats::event(Event::Untracked),
            Err(outcome) => return Err(outcome),
        }
        room.chosen.state = Chosen::UNTRACKED;
        Ok(Outcome::Forwarded)
    })
}
