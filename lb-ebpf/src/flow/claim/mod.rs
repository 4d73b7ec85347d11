//! Claim: creates the entries of a new flow, in three steps each: reserve, check for a conflict,
//! commit.

mod reply;
mod reservation;

use lb_common::{
    Backend, Mode, Outcome, Phase,
    flow::Direction,
    flow_table::{Binding, Meta, Record, Refused},
};

use super::{
    backend::mode,
    clock::now,
    counts,
    find::search_flow,
    pair,
    scratch::{self, Scratch},
};
use crate::family::Ip;

/// Creates a flow to the chosen backend: one entry, or in modes that translate one for each
/// direction. Afterwards `scratch.chosen` has the backend and the NAT binding, which are others
/// where another CPU was faster.
#[inline(always)]
pub fn claim<F: Ip>(scratch: &mut Scratch<F>, backend: &'static Backend, hop: u32) -> Result<(), Outcome> {
    let translates = mode(backend).translates();
    prepare(scratch, backend, hop);
    if translates {
        claim_replies::<F>(backend)?;
    }
    scratch.new.record.direction = Direction::ToWorker;
    let key = scratch.parsed.key;
    let reserved = reservation::reserve_flow(&key);
    let evicted = &mut scratch.evicted[scratch::BY_FLOW];
    let is_own = !evicted.meta.is_free()
        && evicted.meta.is_kind(scratch.new.record.udp, Direction::ToClient)
        && evicted.address == scratch.new.address
        && evicted.ports == scratch.new.ports;
    let mut allowed = Ok(());
    if is_own {
        // The flow evicted its own entry for replies, which it just created: there is no space for
        // both.
        evicted.meta = Meta(0);
        allowed = Err(Refused::Full);
    }
    let result = reservation::commit(scratch, reserved, allowed, |bucket, own| {
        reservation::flow_conflict(&key, bucket, own)
    });
    let Err(refused) = result else {
        // A full barrier: a CPU that evicts the entry for replies from now on finds the flow, and
        // ends it.
        counts::begun(scratch.chosen.backend, scratch.chosen.service, scratch.new.record.phase);
        scratch.chosen.is_entered = 1;
        scratch.chosen.binding = scratch.new.binding;
        return Ok(());
    };
    if translates {
        // Without its flow, the entry for replies would keep the port.
        reply::withdraw_replies::<F>();
    }
    match refused {
        Refused::Full => Err(Outcome::FlowTableFull),
        // Another CPU created the same flow at the same time: follow that one.
        Refused::Exists if search_flow(&scratch.parsed.key, &mut scratch.flow) => {
            scratch.chosen.backend = scratch.flow.hit.meta.backend();
            scratch.chosen.binding = scratch.flow.hit.binding;
            Ok(())
        }
        _ => Err(Outcome::ClaimRaced),
    }
}

/// Writes the new flow into the scratch memory.
#[inline(always)]
fn prepare<F: Ip>(scratch: &mut Scratch<F>, backend: &Backend, hop: u32) {
    scratch.evicted[scratch::BY_FLOW].meta = Meta(0);
    scratch.evicted[scratch::BY_REPLIES].meta = Meta(0);
    scratch.chosen.is_entered = 0;
    let udp = scratch.parsed.is_udp();
    scratch.new.record = Record {
        phase: if mode(backend).translates() && scratch.chosen.is_moved == 0 {
            Phase::Opening
        } else {
            Phase::first(scratch.parsed.flags, udp)
        },
        udp,
        direction: Direction::ToClient,
        backend: scratch.chosen.backend,
        generation: backend.status.generation(),
        now: now(),
    };
    scratch.new.address = scratch.parsed.key.source;
    scratch.new.ports = scratch.parsed.key.ports;
    scratch.new.binding = Binding::new(scratch.parsed.key.ports.source(), hop, 0);
}

/// Creates the entry for the replies of the new flow; in `nat` with the first NAT binding that is
/// free.
#[inline(always)]
fn claim_replies<F: Ip>(backend: &Backend) -> Result<(), Outcome> {
    let tries = if matches!(mode(backend), Mode::Dnat) {
        1
    } else {
        reply::PORT_TRIES
    };
    let mut is_full = false;
    let mut attempt = 0;
    while attempt < tries {
        reply::pick_port::<F>(attempt);
        let reserved = reply::reserve_replies::<F>();
        let scratch = scratch::scratch::<F>().ok_or(Outcome::Inconsistent)?;
        let Err(refused) = reservation::commit(scratch, reserved, Ok(()), reply::replies_conflict::<F>) else {
            scratch.replies = scratch.reserved;
            return Ok(());
        };
        // The scratch memory has space for one evicted entry. The sender repeats the packet.
        if !scratch.evicted[scratch::BY_REPLIES].meta.is_free() {
            return Err(Outcome::ClaimRaced);
        }
        // Another port has other buckets, which can have space.
        is_full = matches!(refused, Refused::Full);
        attempt += 1;
    }
    Err(if is_full {
        Outcome::FlowTableFull
    } else {
        Outcome::NatPortsExhausted
    })
}

/// Ends the flow that this packet created if its entry for replies is gone. Returns whether it did.
///
/// Another CPU can have evicted that entry before the flow was committed, and could not end the
/// flow then.
#[inline(always)]
pub fn end_half<F: Ip>(scratch: &mut Scratch<F>) -> bool {
    if scratch.chosen.is_entered == 0 || reply::replies_exist::<F>() {
        return false;
    }
    if search_flow(&scratch.parsed.key, &mut scratch.flow) {
        pair::flow_released(&scratch.flow);
    }
    true
}

/// Ends both directions of the flows of which the last claim evicted an entry.
#[inline(always)]
pub fn end_evicted<F: Ip>(scratch: &Scratch<F>) {
    if !scratch.evicted[scratch::BY_FLOW].meta.is_free() {
        pair::flow_evicted::<F>(scratch::BY_FLOW);
    }
    if !scratch.evicted[scratch::BY_REPLIES].meta.is_free() {
        pair::flow_evicted::<F>(scratch::BY_REPLIES);
    }
}
