//! Guard: which sources can open flows to a service, how fast, and how many flows it has at most.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lb_common::{
    Outcome, RateKey, Service,
    choice::Pace,
    service::{GUARD_DENY, Guards},
};

use crate::{
    bpf::{atomic, maps::SERVICE_STATES},
    family::Ip,
    flow,
    packet::parsed::Parsed,
};

/// Whether a packet can open a flow. The rate limit counts only packets that begin a connection.
#[inline(always)]
pub fn admit<F: Ip>(parsed: &Parsed<F>, index: u32, service: &Service, begins: bool) -> Result<(), Outcome> {
    if service.guards as u32 | service.connection_limit | service.source_rate == 0 {
        return Ok(());
    }
    examine(parsed, index, service, begins)
}

#[inline(never)]
fn examine<F: Ip>(parsed: &Parsed<F>, index: u32, service: &Service, begins: bool) -> Result<(), Outcome> {
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
    if service.source_rate != 0 && begins {
        return within_rate(parsed, index, service);
    }
    Ok(())
}

/// Whether a source is within its rate. Counts this flow.
#[inline(always)]
fn within_rate<F: Ip>(parsed: &Parsed<F>, index: u32, service: &Service) -> Result<(), Outcome> {
    let key = RateKey::<F> {
        service: index,
        address: F::network(&parsed.key.source),
    };
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let pace = Pace::new(service.source_rate, service.source_burst);
    let Some(place) = F::rate(&key) else {
        F::set_rate(&key, now + pace.interval);
        return Ok(());
    };
    for _ in 0..4 {
        // SAFETY: a pointer to a map value that other CPUs change.
        let expected = unsafe { core::ptr::read_volatile(place) };
        let Some(next) = pace.next(expected, now) else {
            return Err(Outcome::RateLimited);
        };
        if atomic::compare_and_swap_u64(place, expected, next) {
            return Ok(());
        }
    }
    Err(Outcome::RateLimited)
}

/// Whether new flows of a service arrive faster than its flood rate. Counts this one.
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
    let second = flow::now() >> 4;
    if (seen >> 32) as u32 == second {
        return atomic::fetch_add_u64(recent, 1) as u32 >= service.flood_rate;
    }
    // A lost race loses one count.
    atomic::compare_and_swap_u64(recent, seen, (second as u64) << 32 | 1);
    false
}
