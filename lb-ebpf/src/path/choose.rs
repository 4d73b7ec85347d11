//! The slow path of a packet without a flow: chooses a backend, creates a flow, or refuses the
//! packet.

use aya_log_ebpf::debug;
use lb_common::{Event, Mode, Outcome, Ring, Scheduler, Service, flow_table::Binding, wire::tcp};

use crate::{
    bpf::{
        counters,
        maps::{BACKENDS, SERVICES},
        number::Next,
    },
    family::{Ip, subprogram::subprogram},
    flow::{
        backend::mode,
        claim::claim,
        client_hop,
        scratch::{Chosen, scratch},
    },
    packet::{Packet, parsed::Parsed},
    replies::reset,
    stages::{
        guard,
        lookup::{self, may_be_reply},
        select,
    },
    vrrp::{self, router_mac},
};

subprogram! {
    /// Answers the packet in the scratch memory, whose flow or backend has ended, with RST.
    pub fn refuse_flow<F>(packet: Packet) -> Outcome = refuse;
}

subprogram! {
    /// Chooses a backend for the packet in the scratch memory, which has no flow. Or answers or
    /// relays the packet.
    pub fn choose_backend<F>(packet: Packet) -> Result<Next, Outcome> = choose;
}

subprogram! {
    /// Creates a flow to the chosen backend for the packet in the scratch memory. The chosen
    /// backend is another one where another CPU was faster.
    pub fn enter_flow<F>(packet: Packet) -> Result<Next, Outcome> = enter;
}

#[inline(always)]
fn refuse<F: Ip>(packet: &Packet) -> Outcome {
    match scratch::<F>() {
        Some(scratch) => reset::answer(packet, &scratch.parsed, Outcome::ResetBackendDown),
        None => Outcome::Inconsistent,
    }
}

#[inline(always)]
fn choose<F: Ip>(packet: &Packet) -> Result<Next, Outcome> {
    let scratch = scratch::<F>().ok_or(Outcome::Inconsistent)?;
    let parsed = &scratch.parsed;
    let (service_index, service) = match lookup::service(&parsed.key, parsed.class) {
        // A worker's packet to one of our NAT sources.
        Err(Outcome::NotOurs) if may_be_reply(parsed) => return vrrp::relay(packet, parsed).map(Next::Done),
        found => found?,
    };
    let ring = select::ring(service);
    let is_moved = scratch.chosen.is_moved != 0;
    refuse_unknown(packet, parsed, service, ring, is_moved)?.or_done()?;
    let begins = begins(parsed);
    let translates = translates(service);
    let is_full = match guard::admit(parsed, service_index, service, begins) {
        Ok(()) => false,
        // A connection that began before continues, without an entry that would count.
        Err(Outcome::ConnectionLimit) if !begins => true,
        Err(outcome) => return Err(outcome),
    };
    // A scheduler that chooses the same for each SYN needs no entry until the client has answered
    // the SYN-ACK.
    let is_repeatable = is_stateless(ring) && parsed.is_syn();
    let is_tracked = translates || parsed.is_udp() || !(is_repeatable || is_full || parsed.flags & tcp::RST != 0);
    let is_flooded = is_tracked && !translates && guard::is_flooded(service_index, service);
    // A packet of an unknown established connection goes to the backend that all balancers choose
    // by hash.
    let chosen = if (begins || translates) && !is_flooded {
        select::backend(parsed, service_index, service, ring)
    } else {
        select::by_hash(&parsed.key, service, ring)
    };
    let Some(index) = chosen else {
        if parsed.is_udp() {
            return Err(Outcome::NoBackend);
        }
        return Ok(Next::Done(reset::answer(packet, parsed, Outcome::ResetNoBackend)));
    };
    scratch.chosen.service = service_index;
    scratch.chosen.backend = index;
    scratch.chosen.binding = Binding(0);
    scratch.chosen.is_tracked = 0;
    if is_flooded {
        counters::event(Event::Flooded);
    } else if is_tracked {
        scratch.chosen.is_tracked = 1;
    }
    Ok(Next::Continue)
}

/// Relays or resets a segment of a connection that is unknown here, unless any balancer would
/// choose the same backend.
#[inline(always)]
fn refuse_unknown<F: Ip>(
    packet: &Packet,
    parsed: &Parsed<F>,
    service: &Service,
    ring: Ring,
    is_moved: bool,
) -> Result<Next, Outcome> {
    if begins(parsed) || is_moved {
        return Ok(Next::Continue);
    }
    let translates = translates(service);
    if translates || !is_stateless(ring) {
        match vrrp::relay(packet, parsed) {
            Err(Outcome::NotOurs) => {}
            result => return result.map(Next::Done),
        }
    }
    if translates {
        return Ok(Next::Done(reset::answer(packet, parsed, Outcome::ResetNoFlow)));
    }
    Ok(Next::Continue)
}

/// Whether a packet can be the first of a flow.
#[inline(always)]
fn begins<F: Ip>(parsed: &Parsed<F>) -> bool {
    parsed.is_udp() || parsed.is_syn()
}

#[inline(always)]
fn translates(service: &Service) -> bool {
    Mode::from_number(service.mode).is_some_and(Mode::translates)
}

#[inline(always)]
fn is_stateless(ring: Ring) -> bool {
    ring.scheduler().is_some_and(Scheduler::is_stateless)
}

#[inline(always)]
fn enter<F: Ip>(packet: &Packet) -> Result<Next, Outcome> {
    let scratch = scratch::<F>().ok_or(Outcome::Inconsistent)?;
    let Chosen { service, backend, .. } = scratch.chosen;
    let backend = BACKENDS.get(backend).ok_or(Outcome::Inconsistent)?;
    let translates = mode(backend).translates();
    let hop = if translates {
        client_hop::intern(&router_mac::origin(packet, scratch.parsed.tags)?)
    } else {
        0
    };
    match claim(scratch, backend, hop) {
        Ok(()) => {
            debug!(
                packet.context(),
                "new flow: service {}, backend {}", service, scratch.chosen.backend
            );
        }
        Err(Outcome::FlowTableFull) if !translates => {
            // Without an entry, only a hash gives all packets of the connection the same backend.
            let service = SERVICES.get(service).ok_or(Outcome::Inconsistent)?;
            let by_hash = select::by_hash(&scratch.parsed.key, service, select::ring(service));
            scratch.chosen.backend = by_hash.ok_or(Outcome::NoBackend)?;
            counters::event(Event::Untracked);
        }
        Err(outcome) => return Err(outcome),
    }
    Ok(Next::Continue)
}
