//! The entry that the worker's replies find, and the NAT binding that decides about it.

use lb_common::{
    Be16, Mode,
    flow::Direction,
    flow_table::{self, Binding, Cells as _, Meta, Refused},
    hash,
};

use super::reservation;
use crate::{
    bpf::maps::{BACKENDS, SERVICES},
    family::{Ip, subprogram::subprogram},
    flow::{
        backend::mode,
        find::{is_current, search_reply},
        replies::{is_reply, put_key},
        scratch::{self, scratch},
    },
};

/// How many NAT bindings are tried for a flow.
pub const PORT_TRIES: u32 = 32;

subprogram! {
    /// Gives the new flow a NAT binding: in `nat` the client's own port at the first attempt; at
    /// others ports that a hash selects, and each NAT source in turn. Returns whether it did.
    pub fn pick_port<F>(; attempt: u32) -> bool = bind;
}

subprogram! {
    /// Reserves the entry of the new flow that its worker's replies find.
    pub fn reserve_replies<F>() -> Result<(), Refused> = reserve;
}

subprogram! {
    /// As `flow_conflict`, for the entry that the worker's replies find.
    pub fn replies_conflict<F>(; bucket: u32, own: u32) -> Result<(), Refused> = find_conflict;
}

subprogram! {
    /// Whether the entry for replies of the flow that this packet created still exists, or its mode
    /// needs none.
    pub fn replies_exist<F>() -> bool = exists;
}

subprogram! {
    /// Removes the entry for replies of the new flow. Returns whether it existed.
    pub fn withdraw_replies<F>() -> bool = withdraw;
}

#[inline(always)]
fn bind<F: Ip>(attempt: u32) -> bool {
    let Some(scratch) = scratch::<F>() else { return false };
    let new = &mut scratch.new;
    let Some(backend) = BACKENDS.get(new.record.backend) else {
        return false;
    };
    let Some(service) = SERVICES.get(backend.service) else {
        return false;
    };
    if !matches!(mode(backend), Mode::Dnat) {
        let client_port = new.ports.source();
        let seed = hash::words(client_port.memory() as u32, new.address.as_ref());
        let count = service.nat_port_count as u32;
        let own = client_port.host().wrapping_sub(service.nat_port_low) as u32;
        let offset = if attempt == 0 && own < count {
            own
        } else {
            hash::reduce(hash::words(attempt, &[seed]), count)
        };
        let nth = hash::reduce(seed, service.source_count) + attempt;
        let Some(source) = nth.checked_rem(service.source_count) else {
            return false;
        };
        let port = Be16::from_host(service.nat_port_low.wrapping_add(offset as u16));
        new.binding = Binding::new(port, new.binding.hop(), source);
    }
    let is_udp = new.record.udp;
    put_key(
        &mut scratch.reply_key,
        backend,
        new.binding,
        &new.address,
        new.ports,
        is_udp,
    );
    true
}

#[inline(always)]
fn reserve<F: Ip>() -> Result<(), Refused> {
    let scratch = scratch::<F>().ok_or(Refused::Full)?;
    reservation::reserve(&scratch.reply_key, scratch::BY_REPLIES)
}

#[inline(always)]
fn find_conflict<F: Ip>(bucket: u32, own: u32) -> Result<(), Refused> {
    let (Some(scratch), Some(bucket)) = (scratch::<F>(), F::bucket(bucket)) else {
        return Err(Refused::Full);
    };
    let key = &scratch.reply_key;
    let port = key.ports.destination();
    let is_udp = scratch.new.record.udp;
    let difference = |slot| flow_table::port_difference::<F, _>(bucket, slot, port);
    let conflict = flow_table::conflict::<F, _>(bucket, own as usize, difference, |other| {
        other.binding.port() == port
            && other.meta.is_kind(is_udp, Direction::ToClient)
            && BACKENDS
                .get(other.meta.backend())
                .is_some_and(|backend| is_current(other, backend) && is_reply(key, other, backend))
    });
    conflict.map_or(Ok(()), Err)
}

#[inline(always)]
fn exists<F: Ip>() -> bool {
    let Some(scratch) = scratch::<F>() else { return false };
    let translates = BACKENDS
        .get(scratch.chosen.backend)
        .is_some_and(|backend| mode(backend).translates());
    if !translates {
        return true;
    }
    let replies = &scratch.replies;
    let slot = replies.slot as usize;
    match F::bucket(replies.bucket()) {
        Some(cells) if slot < flow_table::SLOTS => {
            let meta = Meta(cells.load_u64(F::meta(slot)));
            meta.is_live() && meta.is_same(replies.meta)
        }
        _ => false,
    }
}

#[inline(always)]
fn withdraw<F: Ip>() -> bool {
    let Some(scratch) = scratch::<F>() else { return false };
    if !search_reply(&scratch.reply_key, &mut scratch.other) {
        return false;
    }
    // Another CPU can have evicted it, and another flow can be in its place.
    let hit = &scratch.other.hit;
    if hit.address != scratch.new.address || hit.ports != scratch.new.ports {
        return false;
    }
    match scratch.other.cells() {
        Some(cells) => flow_table::release(cells, hit).is_some(),
        None => false,
    }
}
