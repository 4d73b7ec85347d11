//! The way of every packet that does not just go on as before: it begins a flow, ends one, is a fragment or an ICMP
//! error, has no next hop yet, or is none of ours after all.

use aya_log_ebpf::{debug, trace};
use lb_common::{
    Action, AddressClass, Backend, Event, Mode, NextHop, OnBackendDown, Options, Outcome, Ports, Scheduler,
    flow::Direction,
    flow_table::{Bind, Meta},
    service::MAX_SOURCES,
    wire::{tcp, udp},
};

use crate::{
    client_hop, emit,
    family::Stages,
    guard, lookup,
    maps::{BACKENDS, NEXT_HOPS, SERVICES},
    packet::Packet,
    parse::{self, Parsed},
    pipeline::{follows, may_be_answer, policy, read, read_source},
    reset,
    rewrite::{nat, tunnel},
    room::Chosen,
    router_mac, select, stats, toa, too_big,
    track::{self, again},
    verdict::settle,
    vrrp,
};

/// What becomes of a packet of this family: the number of an outcome.
#[inline(always)]
pub fn run<F: Stages>(packet: &Packet) -> u32 {
    match way::<F>(packet) {
        Ok(true) => F::send_to_client(packet),
        Ok(false) => F::send_to_worker(packet),
        Err(outcome) => match Outcome::action_of(outcome) {
            Action::Pass => pass::<F>(packet, outcome),
            _ => outcome,
        },
    }
}

/// The outcome of a packet that is the kernel's, if its destination takes such packets.
#[inline(always)]
fn pass<F: Stages>(packet: &Packet, outcome: u32) -> u32 {
    match F::accept(packet) {
        GO_ON => outcome,
        refused => refused,
    }
}

/// Decides where a packet goes: to the client or the worker that the room tells; or what becomes of it.
#[inline(always)]
fn way<F: Stages>(packet: &Packet) -> Result<bool, u32> {
    const TO_CLIENT: Result<bool, u32> = Ok(true);
    const TO_WORKER: Result<bool, u32> = Ok(false);
    let room = F::room().ok_or(number(Outcome::Inconsistent))?;
    room.parsed = Parsed::BLANK;
    let link = parse::link(packet).map_err(number)?;
    router_mac::check(packet, link.tags).map_err(number)?;
    read(packet, &link, &mut room.parsed).map_err(number)?;
    let parsed = &mut room.parsed;
    if parsed.class.0 == 0 {
        return Err(match F::send_error(packet) {
            NOT_TCP_UDP | MALFORMED | GO_ON => number(Outcome::NotOurs),
            outcome => outcome,
        });
    }
    read_source(parsed);
    if parsed.transport.fragment == 0 && matches!(parsed.key.protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        parse::transport(packet, parsed).map_err(number)?;
    } else {
        go_on(F::read_unusual(packet))?;
    }
    let parsed = &room.parsed;
    if parsed.key.protocol == F::ICMP {
        go_on(F::send_error(packet))?;
        return TO_WORKER;
    }
    if may_be_answer(parsed) && F::search_answer(&parsed.key, &mut room.flow) != 0 {
        let flow = &room.flow;
        track::note_time_of(flow);
        if track::answer_tells(flow.hit.meta, parsed) {
            F::flow_answered(flow, parsed.flags as u32);
        }
        return TO_CLIENT;
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(number(Outcome::NotOurs));
    }
    room.chosen.is_handshake = !parsed.is_udp() as u32;
    room.chosen.is_moved = 0;
    let found = F::search_flow(&parsed.key, &mut room.flow);
    let mut is_chosen = false;
    if found != 0 {
        let flow = &room.flow;
        let backend = flow.backend().ok_or(number(Outcome::Inconsistent))?;
        if !follows(parsed, flow.hit.meta, backend) {
            let begins = parsed.is_syn() || parsed.is_udp() || parsed.flags & tcp::RST != 0;
            room.chosen.is_moved = (!begins && may_move(flow.hit.meta, backend)) as u32;
        } else if again::repeats(flow.hit.meta, backend, parsed) && F::reschedule() != 0 {
            is_chosen = true;
        } else {
            room.chosen.is_handshake &= flow.hit.meta.phase().is_embryonic() as u32;
            room.chosen.backend = flow.hit.meta.backend();
            room.chosen.bind = flow.hit.bind;
            track::touch(flow, backend, parsed);
            if track::mode(backend).translates() {
                let origin = router_mac::origin(packet, parsed.tags).map_err(number)?;
                if !client_hop::leads_to(flow.hit.bind.hop(), &origin) && !vrrp::is_relayed(packet, parsed) {
                    F::flow_hop_changed(flow, client_hop::intern(&origin));
                }
            }
            return TO_WORKER;
        }
        F::flow_released(&room.flow);
    }
    let is_left = found != 0 || room.flow.was_left != 0;
    if is_left && !parsed.is_syn() && !parsed.is_udp() {
        if room.chosen.is_moved == 0 {
            return Err(F::refuse(packet));
        }
        room.chosen.is_handshake = 0;
    }
    if !is_chosen {
        go_on(F::choose_backend(packet))?;
    }
    if room.chosen.is_tracked != 0 {
        let result = F::enter_flow(packet);
        track::end_evicted(room);
        go_on(result)?;
        if track::ends_half(room) {
            return Err(number(Outcome::ClaimRaced));
        }
    }
    TO_WORKER
}

/// Whether a connection goes on with another backend, because its own is down.
#[inline(always)]
fn may_move(meta: Meta, backend: &Backend) -> bool {
    meta.is_generation(backend.status.generation()) && matches!(policy(backend), OnBackendDown::Reschedule)
}

const NOT_TCP_UDP: u32 = Outcome::NotTcpUdp as u32;
const MALFORMED: u32 = Outcome::Malformed as u32;

/// Says that the packet goes on, where a function could have said what became of it.
pub const GO_ON: u32 = u32::MAX;

#[inline(always)]
fn go_on(result: u32) -> Result<(), u32> {
    if result == GO_ON { Ok(()) } else { Err(result) }
}

#[inline(always)]
fn number(outcome: Outcome) -> u32 {
    outcome as u32
}

/// The outcome of a step, or that the packet goes on.
#[inline(always)]
pub fn step(body: impl FnOnce() -> Result<Option<Outcome>, Outcome>) -> u32 {
    match body() {
        Ok(None) => GO_ON,
        Ok(Some(outcome)) | Err(outcome) => number(outcome),
    }
}

/// Sends the packet in the room to the backend that the room tells.
#[inline(always)]
pub fn to_worker<F: Stages>(packet: &Packet) -> Outcome {
    settle(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let parsed = &room.parsed;
        let (index, bind) = (room.chosen.backend, room.chosen.bind);
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
                if service.options & Options::TOA != 0
                    && is_handshake::<F>()
                    && toa::insert(packet, parsed, hop.mtu) == 0
                    && toa::may_claim(packet, parsed) != 0
                {
                    return Err(Outcome::ToaForged);
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

/// Sends the packet in the room, an answer of the flow in the room, to its client.
#[inline(always)]
pub fn to_client<F: Stages>(packet: &Packet) -> Outcome {
    settle(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let (parsed, flow) = (&room.parsed, &room.flow);
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

/// Answers the packet in the room, whose flow's backend is down.
#[inline(always)]
pub fn refuse<F: Stages>(packet: &Packet) -> Outcome {
    match F::room() {
        Some(room) => reset::answer(packet, &room.parsed, Outcome::ResetBackendDown),
        None => Outcome::Inconsistent,
    }
}

/// Chooses a backend for the packet in the room, which has no flow; or answers it, or it is not ours.
#[inline(always)]
pub fn choose<F: Stages>(packet: &Packet) -> u32 {
    step(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let parsed = &room.parsed;
        let (service_index, service) = match lookup::service(&parsed.key, parsed.class) {
            // To a source address of ours, by a worker.
            Err(Outcome::NotOurs) if may_be_answer(parsed) => return vrrp::relay(packet, parsed).map(Some),
            found => found?,
        };
        let translates = Mode::from_number(service.mode).is_some_and(Mode::translates);
        let begins = parsed.is_udp() || parsed.is_syn();
        let is_moved = room.chosen.is_moved != 0;
        let ring = select::ring(service);
        let is_stateless = ring.scheduler().is_some_and(Scheduler::is_stateless);
        if !begins && !is_moved && (translates || !is_stateless) {
            match vrrp::relay(packet, parsed) {
                Err(Outcome::NotOurs) => {}
                Ok(outcome) | Err(outcome) => return Ok(Some(outcome)),
            }
        }
        if translates && !begins && !is_moved {
            return Ok(Some(reset::answer(packet, parsed, Outcome::ResetNoFlow)));
        }
        let is_full = match guard::admit(parsed, service_index, service, begins) {
            Ok(()) => false,
            // A connection that began before goes on, without an entry that would count.
            Err(Outcome::ConnectionLimit) if !begins => true,
            Err(outcome) => return Err(outcome),
        };
        // What the ring says again for the next packet needs no entry until the client has answered.
        let repeats = is_stateless && parsed.is_syn();
        let is_tracked = translates || parsed.is_udp() || !(repeats || is_full || parsed.flags & tcp::RST != 0);
        let is_flooded = is_tracked && !translates && guard::is_flooded(service_index, service);
        // A packet in the middle of a connection that is not known here goes where the peers would send it too.
        let chosen = if (begins || translates) && !is_flooded {
            select::backend(parsed, service_index, service, ring)
        } else {
            select::by_hash(&parsed.key, service, ring)
        };
        let Some(index) = chosen else {
            if parsed.is_udp() {
                return Err(Outcome::NoBackend);
            }
            return Ok(Some(reset::answer(packet, parsed, Outcome::ResetNoBackend)));
        };
        room.chosen.service = service_index;
        room.chosen.backend = index;
        room.chosen.bind = Bind(0);
        room.chosen.is_tracked = 0;
        if is_flooded {
            stats::event(Event::Flooded);
        } else if is_tracked {
            room.chosen.is_tracked = 1;
        }
        Ok(None)
    })
}

/// Enters a flow for the packet in the room, to the backend that the room tells. The room then tells another one where
/// another CPU was faster.
#[inline(always)]
pub fn enter<F: Stages>(packet: &Packet) -> u32 {
    step(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let Chosen { service, backend, .. } = room.chosen;
        let backend = BACKENDS.get(backend).ok_or(Outcome::Inconsistent)?;
        let translates = track::mode(backend).translates();
        let hop = if translates {
            client_hop::intern(&router_mac::origin(packet, room.parsed.tags)?)
        } else {
            0
        };
        match track::claim(room, backend, hop) {
            Ok(()) => {
                debug!(
                    packet.context(),
                    "new flow: service {}, backend {}", service, room.chosen.backend
                );
            }
            Err(Outcome::FlowTableFull) if !translates => {
                // All packets of the connection go the same way only by hash.
                let service = SERVICES.get(service).ok_or(Outcome::Inconsistent)?;
                let by_hash = select::by_hash(&room.parsed.key, service, select::ring(service));
                room.chosen.backend = by_hash.ok_or(Outcome::NoBackend)?;
                stats::event(Event::Untracked);
            }
            Err(outcome) => return Err(outcome),
        }
        Ok(None)
    })
}
