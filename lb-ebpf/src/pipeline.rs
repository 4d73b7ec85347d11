//! The way of a packet: parse, find its flow, or begin one; rewrite, send.

use aya_log_ebpf::{debug, trace};
use lb_common::{BackendState, OnBackendDown, Outcome, V4, V6, flow::Direction, wire::eth};

use crate::{
    emit,
    family::Stages,
    lookup,
    maps::{BACKENDS, NEXT_HOPS, SERVICES},
    packet::Packet,
    parse::{self, Parsed},
    reset,
    rewrite::nat,
    select, stats,
    track::{self, Choice, FlowRef},
};

/// What becomes of a packet.
#[inline(always)]
pub fn run(packet: &Packet) -> Outcome {
    let result = match parse::ether_type(packet) {
        Ok(eth::IPV4) => steer::<V4>(packet),
        Ok(eth::IPV6) => steer::<V6>(packet),
        Ok(_) => Err(Outcome::NotIp),
        Err(outcome) => Err(outcome),
    };
    match result {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

#[inline(always)]
fn steer<F: Stages>(packet: &Packet) -> Result<Outcome, Outcome> {
    let parsed = parse::parse::<F>(packet)?;
    let flow = match track::find(&parsed.key) {
        Some(flow) if flow.direction == Direction::ToClient as u32 => return to_client(packet, &parsed, flow),
        Some(flow) => match decide(&parsed, flow)? {
            Next::Follow => flow,
            Next::Begin => {
                track::release(&parsed.key, flow);
                begin(packet, &parsed)?
            }
            Next::Refuse => {
                track::release(&parsed.key, flow);
                return reset::answer(packet, &parsed, Outcome::ResetBackendDown);
            }
        },
        None => begin(packet, &parsed)?,
    };
    to_worker(packet, &parsed, flow)
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
fn decide<F: Stages>(parsed: &Parsed<F>, flow: FlowRef<F>) -> Result<Next, Outcome> {
    if parsed.is_syn() && track::phase(flow).is_over() {
        return Ok(Next::Begin);
    }
    let backend = BACKENDS.get(flow.backend).ok_or(Outcome::Inconsistent)?;
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let status = unsafe { core::ptr::read_volatile(&raw const backend.status) };
    let serves = status.generation() == flow.generation
        && match status.state() {
            BackendState::Up | BackendState::Draining => true,
            BackendState::Free => false,
            BackendState::Down => holds(flow.service),
        };
    Ok(if serves {
        Next::Follow
    } else if parsed.is_syn() || parsed.is_udp() {
        Next::Begin
    } else {
        Next::Refuse
    })
}

/// Whether the flows of a service stay with a backend that is down.
#[inline(always)]
fn holds(service: u32) -> bool {
    SERVICES
        .get(service)
        .is_some_and(|service| matches!(OnBackendDown::from_number(service.on_backend_down), OnBackendDown::Hold))
}

#[inline(always)]
fn to_worker<F: Stages>(packet: &Packet, parsed: &Parsed<F>, flow: FlowRef<F>) -> Result<Outcome, Outcome> {
    let backend = BACKENDS.get(flow.backend).ok_or(Outcome::Inconsistent)?;
    track::touch(flow, Direction::ToWorker, parsed.flags);
    track::note_client_hop(flow, emit::origin(packet)?);
    stats::count_backend(flow.backend, Direction::ToWorker, parsed.transport.packet_length as u32);
    trace!(
        packet.context(),
        "to worker: backend {}, flags {:x}", flow.backend, parsed.flags
    );
    nat::rewrite(packet, parsed, &flow.rewrite)?;
    match NEXT_HOPS.get(backend.next_hop) {
        Some(hop) if hop.is_resolved() => emit::to_hop(packet, hop),
        _ => emit::unresolved(packet, parsed, &flow.rewrite),
    }
}

#[inline(always)]
fn to_client<F: Stages>(packet: &Packet, parsed: &Parsed<F>, answers: FlowRef<F>) -> Result<Outcome, Outcome> {
    let flow = track::find(&answers.rewrite.reversed()).ok_or(Outcome::NotOurs)?;
    // The client's 5-tuple may have begun a new flow since, with another backend or port.
    if flow.rewrite != parsed.key.reversed() {
        return Err(Outcome::NotOurs);
    }
    let backend = BACKENDS.get(flow.backend).ok_or(Outcome::Inconsistent)?;
    if backend.status.generation() != flow.generation {
        return Err(Outcome::NotOurs);
    }
    track::touch(flow, Direction::ToClient, parsed.flags);
    stats::count_backend(flow.backend, Direction::ToClient, parsed.transport.packet_length as u32);
    trace!(
        packet.context(),
        "to client: backend {}, flags {:x}", flow.backend, parsed.flags
    );
    nat::rewrite(packet, parsed, &answers.rewrite)?;
    if flow.client_hop.is_resolved() {
        emit::to_hop(packet, &flow.client_hop)
    } else {
        emit::unresolved(packet, parsed, &answers.rewrite)
    }
}

/// A packet without a flow: begins one, or is answered, or is not ours.
#[inline(never)]
fn begin<F: Stages>(packet: &Packet, parsed: &Parsed<F>) -> Result<FlowRef<F>, Outcome> {
    let (service_index, service) = lookup::service(parsed)?;
    if !parsed.is_udp() && !parsed.is_syn() {
        return Err(reset::answer(packet, parsed, Outcome::ResetNoFlow)?);
    }
    let Some(backend_index) = select::backend(service_index, service) else {
        if parsed.is_udp() {
            return Err(Outcome::NoBackend);
        }
        return Err(reset::answer(packet, parsed, Outcome::ResetNoBackend)?);
    };
    let backend = BACKENDS.get(backend_index).ok_or(Outcome::Inconsistent)?;
    let choice = Choice {
        service: service_index,
        backend_index,
        backend,
    };
    let flow = track::claim(parsed, &choice, emit::origin(packet)?)?;
    debug!(
        packet.context(),
        "new flow: service {}, backend {}", service_index, flow.backend
    );
    Ok(flow)
}
