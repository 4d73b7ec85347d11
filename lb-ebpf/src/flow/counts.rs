//! How many flows backends and services have. The counts are exact: exactly one CPU makes each
//! change of a phase.

use lb_common::{
    Backend, BackendLoad, Event, Phase,
    flow::Tally,
    flow_table::{Hit, Layout},
};

use crate::bpf::{
    atomic, counters,
    maps::{BACKEND_LOADS, SERVICE_STATES},
};

/// Counts a new flow.
#[inline(always)]
pub fn begun(backend: u32, service: u32, phase: Phase) {
    counters::event(Event::FlowBegun);
    if let Some(load) = BACKEND_LOADS.get_ptr_mut(backend) {
        // SAFETY: a pointer to a map value.
        atomic::fetch_add_u64(unsafe { &raw mut (*load).total }, 1);
        if let Some(number) = number(load, phase.tally()) {
            atomic::add_u32(number, 1);
            add_to_service(service, 1);
        }
    }
}

/// Moves a flow from one count of its backend to another.
#[inline(always)]
pub fn moved<F: Layout>(hit: &Hit<F>, backend: &Backend, before: Tally, after: Tally) {
    // Another backend can have the index by now. Its counts do not include this flow.
    if before == after || !hit.meta.is_generation(backend.status.generation()) {
        return;
    }
    if let Some(load) = BACKEND_LOADS.get_ptr_mut(hit.meta.backend()) {
        if let Some(number) = number(load, before) {
            atomic::add_u32(number, u32::MAX);
        }
        if let Some(number) = number(load, after) {
            atomic::add_u32(number, 1);
        }
    }
    if matches!(after, Tally::None) {
        add_to_service(backend.service, u32::MAX);
    }
}

#[inline(always)]
fn number(load: *mut BackendLoad, tally: Tally) -> Option<*mut u32> {
    // SAFETY: a pointer to a map value.
    unsafe {
        match tally {
            Tally::Embryonic => Some(&raw mut (*load).embryonic),
            Tally::Active => Some(&raw mut (*load).active),
            Tally::None => None,
        }
    }
}

#[inline(always)]
fn add_to_service(service: u32, amount: u32) {
    if let Some(state) = SERVICE_STATES.get_ptr_mut(service) {
        // SAFETY: as above.
        atomic::add_u32(unsafe { &raw mut (*state).flows }, amount);
    }
}
