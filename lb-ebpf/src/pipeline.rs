//! The way of a packet: parse, find its flow, or begin one; rewrite, send.

use aya_log_ebpf::{debug, trace};
use lb_common::{
    AddressClass, BackendState, Event, Mode, NextHop, OnBackendDown, Outcome, Ports, Scheduler, V4, V6,
    flow::Direction,
    flow_table::Bind,
    service::MAX_SOURCES,
    wire::{tcp, udp},
};

use crate::{
    client_hop, emit,
    family::Stages,
    guard, lookup,
    maps::{BACKENDS, NEXT_HOPS, SERVICES, settings},
    packet::Packet,
    parse::{self, Link, Parsed},
    reset,
    rewrite::{nat, tunnel},
    select, stats, too_big,
    track::{self, Choice, Found},
    unusual,
    verdict::settle,
};

/// What becomes of a packet.
#[inline(always)]
pub fn run(packet: &Packet) -> Outcome {
    let result = match parse::link(packet) {
        Ok(link) if link.kind == V4::ETHER_TYPE => steer::<V4>(packet, &link),
        Ok(link) if link.kind == V6::ETHER_TYPE => steer::<V6>(packet, &link),
        Ok(_) => Err(Outcome::NotIp),
        Err(outcome) => Err(outcome),
    };
    match result {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

#[inline(always)]
fn steer<F: Stages>(packet: &Packet, link: &Link) -> Result<Outcome, Outcome> {
    let mut parsed = F::parse_ip(packet, link.l3)?;
    parsed.tags = link.tags;
    parsed.class = lookup::class(&parsed.key.destination);
    if !parsed.class.has(AddressClass::VIRTUAL | AddressClass::SOURCE) {
        parsed.class = AddressClass(lookup::class(&parsed.key.source).0 & AddressClass::WORKER);
        if !parsed.class.has(AddressClass::WORKER) {
            return Err(Outcome::NotOurs);
        }
    }
    if parsed.transport.fragment == 0 && matches!(parsed.key.protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        parse::transport(packet, &mut parsed)?;
    } else {
        unusual::read(packet, &mut parsed)?;
    }
    if may_be_answer(&parsed) {
        if let Some(found) = track::find_answer(&parsed.key) {
            return to_client(packet, &parsed, &found);
        }
        let outcome = answer_elsewhere(packet, &parsed);
        if outcome as u32 != Outcome::NotOurs as u32 {
            return Ok(outcome);
        }
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(Outcome::NotOurs);
    }
    // Flows that are where they are looked for first never meet the code for all others.
    match track::find(&parsed.key) {
        Some(found) if follows(&parsed, &found) => follow(packet, &parsed, &found),
        _ => Ok(elsewhere(packet, &parsed)),
    }
}

/// A worker's packet whose flow is not where it is looked for first; [`Outcome::NotOurs`] where it has none.
#[inline(never)]
fn answer_elsewhere<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Outcome {
    settle(|| {
        let mut found = Found::blank().ok_or(Outcome::Inconsistent)?;
        if !track::search_answer(&parsed.key, &mut found) {
            return Err(Outcome::NotOurs);
        }
        to_client(packet, parsed, &found)
    })
}

/// A client's packet whose flow is not where it is looked for first, or has none, or does not follow it.
#[inline(never)]
fn elsewhere<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Outcome {
    settle(|| {
        let mut found = Found::blank().ok_or(Outcome::Inconsistent)?;
        if !track::search(&parsed.key, &mut found) {
            return Ok(to_new(packet, parsed));
        }
        if follows(parsed, &found) {
            return follow(packet, parsed, &found);
        }
        track::release(&found.flow, found.backend);
        if parsed.is_syn() || parsed.is_udp() {
            return Ok(to_new(packet, parsed));
        }
        Ok(reset::answer(packet, parsed, Outcome::ResetBackendDown))
    })
}

/// Whether a packet may come from a worker. Source addresses of `nat` are often virtual addresses too, so that only the
/// port tells.
#[inline(always)]
fn may_be_answer<F: Stages>(parsed: &Parsed<F>) -> bool {
    let class = parsed.class;
    if !class.has(AddressClass::SOURCE) {
        return class.has(AddressClass::WORKER);
    }
    let port = parsed.key.ports.destination().host();
    settings().is_some_and(|settings| settings.nat_port_low <= port && port <= settings.nat_port_high)
}

/// Whether a client's packet goes to the backend of its flow. If not, the flow is over, or its backend is.
#[inline(always)]
fn follows<F: Stages>(parsed: &Parsed<F>, found: &Found<F>) -> bool {
    let meta = found.flow.hit.meta;
    if parsed.is_syn() && meta.phase().is_over() {
        return false;
    }
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let status = unsafe { core::ptr::read_volatile(&raw const found.backend.status) };
    meta.is_generation(status.generation())
        && match status.state() {
            BackendState::Up | BackendState::Draining => true,
            BackendState::Free => false,
            BackendState::Down => holds(found.backend.service),
        }
}

/// Whether the flows of a service stay with a backend that is down.
#[inline(always)]
fn holds(service: u32) -> bool {
    SERVICES
        .get(service)
        .is_some_and(|service| matches!(OnBackendDown::from_number(service.on_backend_down), OnBackendDown::Hold))
}

/// A client's packet of a flow that is known.
#[inline(always)]
fn follow<F: Stages>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Result<Outcome, Outcome> {
    let Found { flow, backend } = found;
    track::touch(flow, backend, parsed);
    if track::mode(backend).translates() {
        let origin = emit::origin(packet, parsed.tags)?;
        if client_hop::get(flow.hit.bind.hop()) != Some(&origin) {
            track::note_hop(flow, backend, client_hop::intern(&origin));
        }
    }
    to_worker(packet, parsed, flow.hit.meta.backend(), flow.hit.bind)
}

/// A packet to the backend at `index`. `bind` counts only in `nat`.
#[inline(always)]
fn to_worker<F: Stages>(packet: &Packet, parsed: &Parsed<F>, index: u32, bind: Bind) -> Result<Outcome, Outcome> {
    let backend = BACKENDS.get(index).ok_or(Outcome::Inconsistent)?;
    let mode = track::mode(backend);
    let length = parsed.transport.packet_length;
    let overhead = tunnel::overhead(backend, mode);
    let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
    if hop.mtu != 0 && length + overhead > hop.mtu as usize {
        return Ok(too_big::answer(packet, parsed, hop.mtu as usize - overhead));
    }
    stats::count_backend(index, Direction::ToWorker, length as u32);
    trace!(
        packet.context(),
        "to worker: backend {}, flags {:x}", index, parsed.flags
    );
    let destination = F::narrow(&backend.address);
    match mode {
        Mode::Nat => {
            let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
            let source = F::narrow(&service.sources[bind.source() as usize & (MAX_SOURCES - 1)]);
            let ports = Ports::new(bind.port(), track::worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, &source, &destination, ports)?;
            send(packet, parsed, hop, &source, &destination)
        }
        Mode::Dnat => {
            let ports = Ports::new(parsed.key.ports.source(), track::worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, &parsed.key.source, &destination, ports)?;
            send(packet, parsed, hop, &parsed.key.source, &destination)
        }
        Mode::Dsr => {
            if !hop.is_resolved() {
                return Err(Outcome::NoNextHop);
            }
            emit::to_hop::<F>(packet, parsed.tags, hop)
        }
        Mode::Ipip | Mode::Gue => {
            let spread = tunnel::spread::<F>(&parsed.key.source, parsed.key.ports);
            let l3 = tunnel::encapsulate(packet, parsed, spread, backend, mode, hop)?;
            if hop.is_resolved() {
                Ok(emit::leave(packet, hop))
            } else {
                Ok(tunnel::unresolved(packet, backend, l3, length + overhead))
            }
        }
    }
}

/// Sends a translated packet.
#[inline(always)]
fn send<F: Stages>(
    packet: &Packet,
    parsed: &Parsed<F>,
    hop: &NextHop,
    source: &F::Address,
    destination: &F::Address,
) -> Result<Outcome, Outcome> {
    if hop.is_resolved() {
        return emit::to_hop::<F>(packet, parsed.tags, hop);
    }
    let what = emit::Unresolved::<F> {
        source,
        destination,
        l3: parsed.transport.l3,
        length: parsed.transport.packet_length,
        protocol: parsed.key.protocol,
        tags: parsed.tags,
    };
    Ok(emit::unresolved(packet, &what))
}

#[inline(always)]
fn to_client<F: Stages>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Result<Outcome, Outcome> {
    let Found { flow, backend } = found;
    let hit = &flow.hit;
    if !hit.meta.is_generation(backend.status.generation()) {
        return Err(Outcome::NotOurs);
    }
    track::touch_answer(flow, backend, parsed);
    let length = parsed.transport.packet_length;
    stats::count_backend(hit.meta.backend(), Direction::ToClient, length as u32);
    trace!(
        packet.context(),
        "to client: backend {}, flags {:x}",
        hit.meta.backend(),
        parsed.flags
    );
    let source = F::narrow(&backend.virtual_address);
    nat::rewrite(packet, parsed, &source, &hit.address, hit.ports.reversed())?;
    match client_hop::get(hit.bind.hop()) {
        Some(hop) => emit::to_hop::<F>(packet, parsed.tags, hop),
        None => send(packet, parsed, &NextHop::ZERO, &source, &hit.address),
    }
}

/// [`to_worker`] for packets that begin a flow, so that the code is there once for all of them.
#[inline(never)]
fn first_to_worker<F: Stages>(packet: &Packet, parsed: &Parsed<F>, index: u32, bind: Bind) -> Outcome {
    settle(|| to_worker(packet, parsed, index, bind))
}

/// A packet without a flow: begins one, or is answered, or is not ours.
#[inline(never)]
fn to_new<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Outcome {
    settle(|| {
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
        let backend = BACKENDS.get(index).ok_or(Outcome::Inconsistent)?;
        let choice = Choice {
            service: service_index,
            index,
            backend,
        };
        if is_flooded {
            stats::event(Event::Flooded);
            return Ok(first_to_worker(packet, parsed, index, Bind(0)));
        }
        // What the ring says again for the next packet needs no entry until the client has answered.
        let repeats = ring.scheduler().is_some_and(Scheduler::is_stateless) && parsed.is_syn();
        if !translates && !parsed.is_udp() && (repeats || parsed.flags & tcp::RST != 0) {
            return Ok(first_to_worker(packet, parsed, index, Bind(0)));
        }
        let hop = if translates {
            client_hop::intern(&emit::origin(packet, parsed.tags)?)
        } else {
            0
        };
        match track::claim(parsed, &choice, hop) {
            Ok(flow) => {
                let index = flow.hit.meta.backend();
                debug!(
                    packet.context(),
                    "new flow: service {}, backend {}", service_index, index
                );
                Ok(first_to_worker(packet, parsed, index, flow.hit.bind))
            }
            Err(Outcome::FlowTableFull) if !translates => {
                stats::event(Event::Untracked);
                Ok(first_to_worker(packet, parsed, index, Bind(0)))
            }
            Err(outcome) => Err(outcome),
        }
    })
}
