//! Counters: outcomes, occurrences, packets of backends.

use lb_common::{BackendCounters, Event, Outcome, flow::Direction};

use super::maps::{BACKEND_COUNTERS, EVENTS, OUTCOMES};

/// Counts the outcome of a packet.
#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: the entry is this CPU's own, and XDP programs of one CPU do not interrupt each
        // other.
        unsafe { *counter += 1 };
    }
}

/// Counts an occurrence.
#[inline(always)]
pub fn event(event: Event) {
    if let Some(counter) = EVENTS.get_ptr_mut(event as u32) {
        // SAFETY: as above.
        unsafe { *counter += 1 };
    }
}

/// Counts a packet of a backend. `bytes` is its length in bytes, from the IP header on.
#[inline(always)]
pub fn count_backend(backend: u32, direction: Direction, bytes: u32) {
    let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(backend) else {
        return;
    };
    // SAFETY: as above.
    let counters: &mut BackendCounters = unsafe { &mut *counters };
    match direction {
        Direction::ToWorker => {
            counters.to_worker_packets += 1;
            counters.to_worker_bytes += bytes as u64;
        }
        Direction::ToClient => {
            counters.to_client_packets += 1;
            counters.to_client_bytes += bytes as u64;
        }
    }
}
