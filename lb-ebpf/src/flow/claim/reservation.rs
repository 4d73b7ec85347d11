//! One entry: reserve, check for a conflict, commit or withdraw. See `lb_common::flow_table`.

use lb_common::{
    FlowKey,
    flow::Direction,
    flow_table::{self, Places, Refused},
};

use crate::{
    bpf::maps::{BACKENDS, settings},
    family::{Ip, subprogram::subprogram},
    flow::{
        find::{is_current, is_of_client, places},
        scratch::{self, Scratch, scratch},
        spill,
    },
};

subprogram! {
    /// Reserves the entry of the new flow that packets with this 5-tuple find.
    pub fn reserve_flow<F>(key: in FlowKey) -> Result<(), Refused> = reserve_by_flow;
}

subprogram! {
    /// Whether a bucket has an entry that conflicts with the reserved entry of the new flow. `own`
    /// is the slot of the reserved entry, or `SLOTS` in the other bucket.
    pub fn flow_conflict<F>(key: in FlowKey; bucket: u32, own: u32) -> Result<(), Refused> = find_conflict;
}

subprogram! {
    /// Ends a reservation in a bucket: commits the entry, or withdraws it.
    fn end_reservation<F>(; bucket: u32, is_allowed: bool) -> bool = end;
}

#[inline(always)]
fn reserve_by_flow<F: Ip>(key: &FlowKey<F>) -> Result<(), Refused> {
    reserve(key, scratch::BY_FLOW)
}

/// Reserves an entry of the new flow in the buckets of a 5-tuple. The entry that it evicts is kept
/// in the scratch memory, at `by`.
#[inline(always)]
pub fn reserve<F: Ip>(key: &FlowKey<F>, by: usize) -> Result<(), Refused> {
    let scratch = scratch::<F>().ok_or(Refused::Full)?;
    let places = places(key);
    let (Some(first), Some(second)) = (F::bucket(places.first), F::bucket(places.second)) else {
        return Err(Refused::Full);
    };
    let expiry = settings().map_or(0, |settings| settings.expiry);
    let spill = || spill::mark::<F>(places.first);
    let reserved = flow_table::reserve([first, second], &scratch.new, expiry, &mut scratch.evicted[by], spill)?;
    scratch.reserved.meta = reserved.meta;
    scratch.reserved.places = places;
    scratch.reserved.second = reserved.second as u32;
    scratch.reserved.slot = reserved.slot as u32;
    Ok(())
}

/// Commits the reserved entry if it is allowed and conflicts with no other; else withdraws it.
#[inline(always)]
pub fn commit<F: Ip>(
    scratch: &mut Scratch<F>,
    reserved: Result<(), Refused>,
    allowed: Result<(), Refused>,
    conflict: impl Fn(u32, u32) -> Result<(), Refused>,
) -> Result<(), Refused> {
    reserved?;
    let Places { first, second } = scratch.reserved.places;
    let slot = scratch.reserved.slot;
    let none = flow_table::SLOTS as u32;
    let (bucket, own) = if scratch.reserved.second != 0 {
        (second, [none, slot])
    } else {
        (first, [slot, none])
    };
    let mut result = allowed;
    if result.is_ok() {
        result = conflict(first, own[0]);
    }
    if result.is_ok() && spill::is_marked::<F>(first) {
        result = conflict(second, own[1]);
    }
    end_reservation::<F>(bucket, result.is_ok());
    result
}

#[inline(always)]
fn end<F: Ip>(bucket: u32, is_allowed: bool) -> bool {
    let (Some(scratch), Some(cells)) = (scratch::<F>(), F::bucket(bucket)) else {
        return false;
    };
    let (slot, meta) = (scratch.reserved.slot as usize, scratch.reserved.meta);
    if slot >= flow_table::SLOTS {
        return false;
    }
    if is_allowed {
        flow_table::commit::<F, _>(cells, slot, meta);
    } else {
        flow_table::withdraw::<F, _>(cells, slot, meta);
    }
    true
}

#[inline(always)]
fn find_conflict<F: Ip>(key: &FlowKey<F>, bucket: u32, own: u32) -> Result<(), Refused> {
    let (Some(scratch), Some(bucket)) = (scratch::<F>(), F::bucket(bucket)) else {
        return Err(Refused::Full);
    };
    let new = &scratch.new;
    let difference = |slot| F::difference(bucket, slot, &key.source, key.ports);
    let conflict = flow_table::conflict::<F, _>(bucket, own as usize, difference, |other| {
        other.address == new.address
            && other.ports == new.ports
            && other.meta.is_kind(new.record.udp, Direction::ToWorker)
            && BACKENDS
                .get(other.meta.backend())
                .is_some_and(|backend| is_current(other, backend) && is_of_client(key, backend))
    });
    conflict.map_or(Ok(()), Err)
}
