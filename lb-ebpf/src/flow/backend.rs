//! The backend of a flow: its mode, and whether it still takes the packets of the flow.

use lb_common::{Backend, BackendState, Family, Mode, OnBackendDown, flow_table::Meta};

use crate::{bpf::maps::SERVICES, packet::parsed::Parsed};

/// The forwarding mode of a backend's service.
#[inline(always)]
pub fn mode(backend: &Backend) -> Mode {
    Mode::from_number(backend.mode).unwrap_or(Mode::Nat)
}

/// Whether a client's packet goes to the backend of its flow. If not, the flow or its backend has
/// ended.
#[inline(always)]
pub fn follows<F: Family>(parsed: &Parsed<F>, meta: Meta, backend: &Backend) -> bool {
    if parsed.is_syn() && meta.phase().is_over() {
        return false;
    }
    // SAFETY: a reference to a map value that the controller changes by whole words.
    let status = unsafe { core::ptr::read_volatile(&raw const backend.status) };
    meta.is_generation(status.generation())
        && match status.state() {
            BackendState::Up | BackendState::Draining => true,
            BackendState::Free => false,
            BackendState::Down => matches!(on_backend_down(backend), OnBackendDown::Hold),
        }
}

/// What happens to the flows of a backend that is down.
#[inline(always)]
pub fn on_backend_down(backend: &Backend) -> OnBackendDown {
    SERVICES.get(backend.service).map_or(OnBackendDown::Reset, |service| {
        OnBackendDown::from_number(service.on_backend_down)
    })
}

/// Whether a connection continues with another backend, because its own is down.
#[inline(always)]
pub fn may_move(meta: Meta, backend: &Backend) -> bool {
    meta.is_generation(backend.status.generation()) && matches!(on_backend_down(backend), OnBackendDown::Reschedule)
}
