//! What both halves of the packet path share.
//!
//! A packet of a flow that stands where it is looked for first, and changes nothing but the time, passes [`crate::fast`]
//! alone. Every other one goes on to [`crate::slow`], a program of its own with a stack of its own, which begins anew and
//! knows all that can happen.

use lb_common::{AddressClass, Backend, BackendState, OnBackendDown, Outcome, flow_table::Meta};

use crate::{
    family::Stages,
    lookup,
    maps::{SERVICES, settings},
    packet::Packet,
    parse::{Link, Parsed},
};

/// Reads the IP header, and says [`Outcome::NotOurs`] of most packets that are none of ours. A packet of ICMP may be an error
/// that a router sends to a client of `dnat`; it has no class then.
#[inline(always)]
pub fn read<F: Stages>(packet: &Packet, link: &Link, parsed: &mut Parsed<F>) -> Result<(), Outcome> {
    F::parse_ip(packet, link.l3, parsed)?;
    parsed.tags = link.tags;
    parsed.class = lookup::class(&parsed.key.destination);
    if !parsed.class.has(AddressClass::VIRTUAL | AddressClass::SOURCE) {
        parsed.class = AddressClass(lookup::class(&parsed.key.source).0 & AddressClass::WORKER);
        let may_be_error = parsed.key.protocol == F::ICMP && parsed.transport.fragment == 0;
        if !parsed.class.has(AddressClass::WORKER) && !may_be_error {
            return Err(Outcome::NotOurs);
        }
    }
    Ok(())
}

/// Adds whether the packet may come from a worker where [`read`] did not look, because its destination may be ours. A client's
/// address may share its place among the classes with one of ours.
#[inline(always)]
pub fn read_source<F: Stages>(parsed: &mut Parsed<F>) {
    parsed.class.0 |= lookup::class(&parsed.key.source).0 & AddressClass::WORKER;
}

/// Whether a packet may come from a worker. Source addresses of `nat` are often virtual addresses too, so that only the
/// port tells.
#[inline(always)]
pub fn may_be_answer<F: Stages>(parsed: &Parsed<F>) -> bool {
    let class = parsed.class;
    if class.has(AddressClass::WORKER) {
        return true;
    }
    if !class.has(AddressClass::SOURCE) {
        return false;
    }
    let port = parsed.key.ports.destination().host();
    settings().is_some_and(|settings| settings.nat_port_low <= port && port <= settings.nat_port_high)
}

/// Whether a client's packet goes to the backend of its flow. If not, the flow is over, or its backend is.
#[inline(always)]
pub fn follows<F: Stages>(parsed: &Parsed<F>, meta: Meta, backend: &Backend) -> bool {
    if parsed.is_syn() && meta.phase().is_over() {
        return false;
    }
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let status = unsafe { core::ptr::read_volatile(&raw const backend.status) };
    meta.is_generation(status.generation())
        && match status.state() {
            BackendState::Up | BackendState::Draining => true,
            BackendState::Free => false,
            BackendState::Down => matches!(policy(backend), OnBackendDown::Hold),
        }
}

/// What happens to the flows of a backend that is down.
#[inline(always)]
pub fn policy(backend: &Backend) -> OnBackendDown {
    SERVICES.get(backend.service).map_or(OnBackendDown::Reset, |service| {
        OnBackendDown::from_number(service.on_backend_down)
    })
}
