//! Client hops: where packets of clients come from. Flows of the same router or neighbour share
//! one.

use lb_common::{Event, NextHop, flow_table::binding::HOPS, hash, next_hop::ClientHop};

use crate::bpf::{
    atomic, counters,
    loops::{Turn, repeat},
    maps::CLIENT_HOPS,
};

/// How many entries are tried.
const TRIES: u32 = 16;

/// The hop at an index; `None` where it is unknown.
#[inline(always)]
pub fn get(index: u32) -> Option<&'static NextHop> {
    let entry = CLIENT_HOPS.get(index)?;
    entry.hop.is_resolved().then_some(&entry.hop)
}

/// Whether the hop at an index leads back to the sender of a packet. The source address of replies
/// can differ from the destination of the packet: see `router_mac::origin`.
#[inline(always)]
pub fn leads_to(index: u32, origin: &NextHop) -> bool {
    get(index).is_some_and(|hop| hop.is_same_neighbour(origin))
}

/// The index of a hop, which is added if it is new; 0 where the map is full.
#[inline(never)]
pub fn intern(hop: &NextHop) -> u32 {
    let mut search = Search {
        hop,
        start: hash::words(hop.ifindex ^ hop.tags.0, &hop.addresses),
        found: 0,
    };
    repeat(TRIES, try_entry, &mut search);
    if search.found == 0 {
        counters::event(Event::HopsFull);
    }
    search.found
}

struct Search<'a> {
    hop: &'a NextHop,
    start: u32,
    found: u32,
}

extern "C" fn try_entry(turn: u32, search: &mut Search<'_>) -> Turn {
    let index = search.start.wrapping_add(turn) & (HOPS as u32 - 1);
    // The first entry means: unknown.
    if index == 0 {
        return Turn::Continue;
    }
    let Some(entry) = CLIENT_HOPS.get_ptr_mut(index) else {
        return Turn::Stop;
    };
    // SAFETY: a pointer to a map value; so below.
    let state = unsafe { core::ptr::read_volatile(&raw const (*entry).state) };
    // SAFETY: as above.
    let place = unsafe { &raw mut (*entry).state };
    if state == ClientHop::VALID || state == ClientHop::LEAVING {
        // SAFETY: as above; the entry does not change until it was free.
        let is_same = unsafe { (*entry).hop } == *search.hop;
        // If that fails, another CPU made it valid, or it is free: then another entry is used.
        if !is_same
            || state == ClientHop::LEAVING && !atomic::compare_and_swap_u32(place, ClientHop::LEAVING, ClientHop::VALID)
        {
            return Turn::Continue;
        }
        search.found = index;
        return Turn::Stop;
    }
    if !atomic::compare_and_swap_u32(place, ClientHop::FREE, ClientHop::WRITING) {
        return Turn::Continue;
    }
    // SAFETY: as above; the entry is this CPU's alone while it is being written.
    unsafe { core::ptr::write_volatile(&raw mut (*entry).hop, *search.hop) };
    atomic::compare_and_swap_u32(place, ClientHop::WRITING, ClientHop::VALID);
    search.found = index;
    Turn::Stop
}
