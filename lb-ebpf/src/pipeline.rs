//! The way of a packet: parse, find its flow, or begin one; rewrite, send.

use lb_common::{
    AddressClass, Backend, BackendState, Event, Mode, NextHop, OnBackendDown, Outcome, Ports, Scheduler, V4, V6,
    flow::Direction,
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
    track::{self, Choice, Flow, Found},
    unusual,
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
    if may_be_answer(&parsed)
        && let Some(found) = track::find_answer(&parsed.key)
    {
        return to_client(packet, &parsed, &found);
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(Outcome::NotOurs);
    }
    match track::find(&parsed.key) {
        Some(found) => match decide(&parsed, &found) {
            Next::Follow => to_worker(packet, &parsed, &Target::of(found)),
            Next::Begin => begin_again(packet, &parsed, &found),
            Next::Refuse => refuse(packet, &parsed, &found),
        },
        None => to_new(packet, &parsed),
    }
}

/// A packet whose flow is over, or whose backend is.
#[inline(never)]
fn begin_again<F: Stages>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Result<Outcome, Outcome> {
    track::release(&found.flow, found.backend);
    to_new(packet, parsed)
}

/// A packet whose flow's backend is down, where the client shall know.
#[inline(never)]
fn refuse<F: Stages>(packet: &Packet, parsed: &Parsed<F>, found: &Found<F>) -> Result<Outcome, Outcome> {
    track::release(&found.flow, found.backend);
    reset::answer(packet, parsed, Outcome::ResetBackendDown)
}

/// A packet without a flow, to the backend that is chosen for it.
#[inline(never)]
fn to_new<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let target = begin(packet, parsed)?;
    to_worker(packet, parsed, &target)
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

/// Where a client's packet goes.
pub struct Target<F: Stages> {
    pub backend: &'static Backend,
    pub index: u32,
    /// The flow's entry; none where the packet goes without.
    pub flow: Option<Flow<F>>,
    /// Whether this packet began the flow.
    pub is_new: bool,
}

impl<F: Stages> Target<F> {
    #[inline(always)]
    fn of(found: Found<F>) -> Self {
        Self {
            backend: found.backend,
            index: found.flow.hit.meta.backend(),
            flow: Some(found.flow),
            is_new: false,
        }
    }
}

/// What to do with a client's packet that has a flow.
enum Next {
    /// Send it to the flow's backend.
    Follow,
    /// The flow is over; the packet begins a new one.
    Begin,
    /// The flow's backend is down or gone, and the client shall know.
    Refuse,
}

#[inline(always)]
fn decide<F: Stages>(parsed: &Parsed<F>, found: &Found<F>) -> Next {
    let meta = found.flow.hit.meta;
    if parsed.is_syn() && meta.phase().is_over() {
        return Next::Begin;
    }
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let status = unsafe { core::ptr::read_volatile(&raw const found.backend.status) };
    let serves = meta.is_generation(status.generation())
        && match status.state() {
            BackendState::Up | BackendState::Draining => true,
            BackendState::Free => false,
            BackendState::Down => holds(found.backend.service),
        };
    if serves {
        Next::Follow
    } else if parsed.is_syn() || parsed.is_udp() {
        Next::Begin
    } else {
        Next::Refuse
    }
}

/// Whether the flows of a service stay with a backend that is down.
#[inline(always)]
fn holds(service: u32) -> bool {
    SERVICES
        .get(service)
        .is_some_and(|service| matches!(OnBackendDown::from_number(service.on_backend_down), OnBackendDown::Hold))
}

#[inline(always)]
fn to_worker<F: Stages>(
    packet: &Packet,
    parsed: &Parsed<F>,
    target: &Target<F>,
) -> Result<Outcome, Outcome> {
    let backend = target.backend;
    let mode = track::mode(backend);
    let length = parsed.transport.packet_length;
    let overhead = tunnel::overhead(backend, mode);
    let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
    if hop.mtu != 0 && length + overhead > hop.mtu as usize {
        return too_big::answer(packet, parsed, hop.mtu as usize - overhead);
    }
    if let Some(flow) = &target.flow
        && !target.is_new
    {
        track::touch(flow, backend, parsed);
        if mode.translates() {
            let origin = emit::origin(packet, parsed.tags)?;
            if client_hop::get(flow.hit.bind.hop()) != Some(&origin) {
                track::note_hop(flow, backend, client_hop::intern(&origin));
            }
        }
    }
    stats::count_backend(target.index, Direction::ToWorker, length as u32);
    let destination = F::narrow(&backend.address);
    match mode {
        Mode::Nat => {
            let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
            let bind = target.flow.as_ref().ok_or(Outcome::Inconsistent)?.hit.bind;
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
                tunnel::unresolved(packet, backend, l3, length + overhead)
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
    emit::unresolved(packet, &what)
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
    let source = F::narrow(&backend.virtual_address);
    nat::rewrite(packet, parsed, &source, &hit.address, hit.ports.reversed())?;
    match client_hop::get(hit.bind.hop()) {
        Some(hop) => emit::to_hop::<F>(packet, parsed.tags, hop),
        None => send(packet, parsed, &NextHop::ZERO, &source, &hit.address),
    }
}

/// A packet without a flow: begins one, or is answered, or is not ours.
#[inline(always)]
fn begin<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<Target<F>, Outcome> {
    let (service_index, service) = lookup::service(parsed)?;
    let translates = Mode::from_number(service.mode).is_some_and(Mode::translates);
    let begins = parsed.is_udp() || parsed.is_syn();
    if translates && !begins {
        return Err(reset::answer(packet, parsed, Outcome::ResetNoFlow)?);
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
        return Err(reset::answer(packet, parsed, Outcome::ResetNoBackend)?);
    };
    let backend = BACKENDS.get(index).ok_or(Outcome::Inconsistent)?;
    let choice = Choice {
        service: service_index,
        index,
        backend,
    };
    let untracked = Target {
        backend,
        index,
        flow: None,
        is_new: true,
    };
    if is_flooded {
        stats::event(Event::Flooded);
        return Ok(untracked);
    }
    // What the ring says again for the next packet needs no entry until the client has answered.
    let repeats = ring.scheduler().is_some_and(Scheduler::is_stateless) && parsed.is_syn();
    if !translates && !parsed.is_udp() && (repeats || parsed.flags & tcp::RST != 0) {
        return Ok(untracked);
    }
    let hop = if translates { client_hop::intern(&emit::origin(packet, parsed.tags)?) } else { 0 };
    match track::claim(parsed, &choice, hop) {
        Ok(flow) => {
            let index = flow.hit.meta.backend();
            Ok(Target {
                backend: BACKENDS.get(index).ok_or(Outcome::Inconsistent)?,
                index,
                flow: Some(flow),
                is_new: true,
            })
        }
        Err(Outcome::FlowTableFull) if !translates => {
            stats::event(Event::Untracked);
            Ok(untracked)
        }
        Err(outcome) => Err(outcome),
    }
}
