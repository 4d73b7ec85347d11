//! Where the packets of clients come from: kept once for all flows of the same router or neighbour.

use lb_common::{Event, NextHop, flow_table::bind::HOPS, hash, next_hop::ClientHop};

use crate::{
    atomic,
    maps::CLIENT_HOPS,
    repeat::{Step, repeat},
    stats,
};

/// How many entries are tried.
const TRIES: u32 = 16;

/// The hop at an index; `None` where it is not known.
#[inline(always)]
pub fn get(index: u32) -> Option<&'static NextHop> {
    let entry = CLIENT_HOPS.get(index)?;
    entry.hop.is_resolved().then_some(&entry.hop)
}

/// Whether the hop at an index is the way back to where a packet came from. The address that answers come from may be
/// another one than the packet went to: see [`crate::router_mac::origin`].
#[inline(always)]
pub fn leads_to(index: u32, origin: &NextHop) -> bool {
    get(index).is_some_and(|hop| hop.is_same_way(origin))
}

/// The index of a hop, which is entered where it is new; 0 where there is no room.
#[inline(never)]
pub fn intern(hop: &NextHop) -> u32 {
    let mut search = Search {
        hop,
        start: hash::words(hop.ifindex ^ hop.tags.0, &hop.addresses),
        found: 0,
    };
    repeat(TRIES, try_entry, &mut search);
    if search.found == 0 {
        stats::event(Event::HopsFull);
    }
    search.found
}

struct Search<'a> {
    hop: &'a NextHop,
    start: u32,
    found: u32,
}

extern "C" fn try_entry(turn: u32, search: &mut Search<'_>) -> Step {
    let index = search.start.wrapping_add(turn) & (HOPS as u32 - 1);
    // The first entry means: not known.
    if index == 0 {
        return Step::Continue;
    }
    let Some(entry) = CLIENT_HOPS.get_ptr_mut(index) else {
        return Step::Stop;
    };
    // SAFETY: a pointer to a map value; so below.
    let state = unsafe { core::ptr::read_volatile(&raw const (*entry).state) };
    // SAFETY: as above.
    let place = unsafe { &raw mut (*entry).state };
    if state == ClientHop::VALID || state == ClientHop::LEAVING {
        // SAFETY: as above; the entry does not change until it was free.
        let is_same = unsafe { (*entry).hop } == *search.hop;
        // Where that fails, it is valid again by another CPU, or free: then another entry does.
        if !is_same
            || state == ClientHop::LEAVING && !atomic::compare_and_swap_u32(place, ClientHop::LEAVING, ClientHop::VALID)
        {
            return Step::Continue;
        }
        search.found = index;
        return Step::Stop;
    }
    if !atomic::compare_and_swap_u32(place, ClientHop::FREE, ClientHop::WRITING) {
        return Step::Continue;
    }
    // SAFETY: as above; the entry is this CPU's alone while it is being written.
    unsafe { core::ptr::write_volatile(&raw mut (*entry).hop, *search.hop) };
    atomic::compare_and_swap_u32(place, ClientHop::WRITING, ClientHop::VALID);
    search.found = index;
    Step::Stop
}
