//! The end of the slow path: rewrites a packet for its worker or client, and sends it.

use aya_log_ebpf::trace;
use lb_common::{Backend, Mode, NextHop, Options, Outcome, Ports, flow::Direction, service::MAX_SOURCES};

use crate::{
    bpf::{
        counters,
        maps::{BACKENDS, NEXT_HOPS, SERVICES},
        number::outcome,
    },
    family::{Ip, subprogram::subprogram},
    flow::{
        backend::mode,
        client_hop,
        replies::worker_port,
        scratch::{Scratch, scratch},
    },
    packet::{
        Packet,
        parsed::{Parsed, Transport},
    },
    replies::too_big,
    stages::{
        emit,
        rewrite::{nat, toa, tunnel},
    },
};

subprogram! {
    /// Sends the packet in the scratch memory to the chosen backend.
    pub fn send_to_worker<F>(packet: Packet) -> Outcome = to_worker;
}

subprogram! {
    /// Sends the packet in the scratch memory, a reply of the flow there, to its client.
    pub fn send_to_client<F>(packet: Packet) -> Outcome = to_client;
}

#[inline(always)]
fn to_worker<F: Ip>(packet: &Packet) -> Outcome {
    outcome(match scratch::<F>() {
        Some(scratch) => forward(packet, scratch),
        None => Err(Outcome::Inconsistent),
    })
}

#[inline(always)]
fn forward<F: Ip>(packet: &Packet, scratch: &Scratch<F>) -> Result<Outcome, Outcome> {
    let parsed = &scratch.parsed;
    let index = scratch.chosen.backend;
    let backend = BACKENDS.get(index).ok_or(Outcome::Inconsistent)?;
    let mode = mode(backend);
    let length = parsed.transport.packet_length;
    let overhead = backend.overhead as usize;
    let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
    if hop.mtu != 0 && length + overhead > hop.mtu as usize {
        return Ok(too_big::answer(packet, parsed, hop.mtu as usize - overhead));
    }
    counters::count_backend(index, Direction::ToWorker, length as u32);
    trace!(
        packet.context(),
        "to worker: backend {}, flags {:x}", index, parsed.flags
    );
    match mode {
        Mode::Nat => nat(packet, scratch, backend, hop),
        Mode::Dnat => {
            let ports = Ports::new(parsed.key.ports.source(), worker_port(backend, parsed.key.ports));
            nat::rewrite(packet, parsed, &parsed.key.source, F::view(&backend.address), ports)?;
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
}

/// Mode `nat`: adds the TOA option to segments of the handshake where the service wants it, and
/// translates.
#[inline(always)]
fn nat<F: Ip>(packet: &Packet, scratch: &Scratch<F>, backend: &Backend, hop: &NextHop) -> Result<Outcome, Outcome> {
    let parsed = &scratch.parsed;
    let binding = scratch.chosen.binding;
    let service = SERVICES.get(backend.service).ok_or(Outcome::Inconsistent)?;
    if service.options & Options::TOA != 0
        && scratch.chosen.is_handshake != 0
        && !toa::insert(packet, parsed, hop.mtu)
        && toa::may_be_forged(packet, parsed)
    {
        return Err(Outcome::ToaForged);
    }
    let source = F::view(&service.sources[binding.source() as usize & (MAX_SOURCES - 1)]);
    let ports = Ports::new(binding.port(), worker_port(backend, parsed.key.ports));
    nat::rewrite(packet, parsed, source, F::view(&backend.address), ports)?;
    send(packet, parsed, hop)
}

/// Sends a translated packet.
#[inline(always)]
fn send<F: Ip>(packet: &Packet, parsed: &Parsed<F>, hop: &NextHop) -> Result<Outcome, Outcome> {
    if hop.is_resolved() {
        return emit::to_hop::<F>(packet, parsed.tags, hop);
    }
    let Transport { l3, packet_length, .. } = parsed.transport;
    Ok(emit::unresolved::<F>(packet, l3, packet_length, parsed.tags))
}

#[inline(always)]
fn to_client<F: Ip>(packet: &Packet) -> Outcome {
    outcome(match scratch::<F>() {
        Some(scratch) => reply(packet, scratch),
        None => Err(Outcome::Inconsistent),
    })
}

#[inline(always)]
fn reply<F: Ip>(packet: &Packet, scratch: &Scratch<F>) -> Result<Outcome, Outcome> {
    let (parsed, flow) = (&scratch.parsed, &scratch.flow);
    let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
    let hit = &flow.hit;
    let length = parsed.transport.packet_length;
    counters::count_backend(hit.meta.backend(), Direction::ToClient, length as u32);
    trace!(
        packet.context(),
        "to client: backend {}, flags {:x}",
        hit.meta.backend(),
        parsed.flags
    );
    let service = F::view(&backend.virtual_address);
    nat::rewrite(packet, parsed, service, &hit.address, hit.ports.reversed())?;
    let hop = client_hop::get(hit.binding.hop()).unwrap_or(&NextHop::ZERO);
    send(packet, parsed, hop)
}
