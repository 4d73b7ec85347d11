//! Guard: who may begin a flow of a service, how fast, and how many there may be.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lb_common::{
    Outcome, RateKey, Service,
    service::{GUARD_DENY, Guards},
};

use crate::{atomic, family::Stages, maps::SERVICE_STATES, parse::Parsed, track};

const SECOND: u64 = 1_000_000_000;

/// Whether a packet may begin a flow.
#[inline(always)]
pub fn admit<F: Stages>(parsed: &Parsed<F>, index: u32, service: &Service) -> Result<(), Outcome> {
    if service.guards as u32 | service.connection_limit | service.source_rate == 0 {
        return Ok(());
    }
    examine(parsed, index, service)
}

#[inline(never)]
fn examine<F: Stages>(parsed: &Parsed<F>, index: u32, service: &Service) -> Result<(), Outcome> {
    if service.guards != 0 {
        match F::guard(index, &parsed.key.source) {
            Some(GUARD_DENY) => return Err(Outcome::GuardDenied),
            None if service.guards & Guards::ALLOW != 0 => return Err(Outcome::GuardDenied),
            _ => {}
        }
    }
    if service.connection_limit != 0
        && let Some(state) = SERVICE_STATES.get(index)
        && state.flows >= service.connection_limit
    {
        return Err(Outcome::ConnectionLimit);
    }
    if service.source_rate != 0 {
        return within_rate(parsed, index, service);
    }
    Ok(())
}

/// The generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling"): each source has one number, the time at
/// which its next flow would come if all came evenly; a flow may come as much earlier as the burst takes.
#[inline(always)]
fn within_rate<F: Stages>(parsed: &Parsed<F>, index: u32, service: &Service) -> Result<(), Outcome> {
    let key = RateKey::<F> {
        service: index,
        address: F::network(&parsed.key.source),
    };
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let interval = SECOND / service.source_rate as u64;
    let burst = if service.source_burst == 0 {
        1
    } else {
        service.source_burst as u64
    };
    let Some(next) = F::rate(&key) else {
        F::set_rate(&key, now + interval);
        return Ok(());
    };
    for _ in 0..4 {
        // SAFETY: a pointer to a map value that other CPUs change.
        let expected = unsafe { core::ptr::read_volatile(next) };
        let due = if expected > now { expected } else { now };
        if due - now > interval * (burst - 1) {
            return Err(Outcome::RateLimited);
        }
        if atomic::compare_and_swap_u64(next, expected, due + interval) {
            return Ok(());
        }
    }
    Err(Outcome::RateLimited)
}

/// Whether new flows of a service come faster than its flood rate. Counts this one.
#[inline(always)]
pub fn is_flooded(index: u32, service: &Service) -> bool {
    if service.flood_rate == 0 {
        return false;
    }
    let Some(state) = SERVICE_STATES.get_ptr_mut(index) else {
        return false;
    };
    // SAFETY: a pointer to a map value; so below.
    let recent = unsafe { &raw mut (*state).recent };
    // SAFETY: as above.
    let seen = unsafe { core::ptr::read_volatile(recent) };
    // Sixteen ticks are about a second.
    let second = track::now() >> 4;
    if (seen >> 32) as u32 == second {
        return atomic::fetch_add_u64(recent, 1) as u32 >= service.flood_rate;
    }
    // A lost race loses one count.
    atomic::compare_and_swap_u64(recent, seen, (second as u64) << 32 | 1);
    false
}
