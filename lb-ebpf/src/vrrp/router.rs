//! The maps of virtual routers, read and written by the packet path.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lb_common::{
    Family, Outcome, Tags, VirtualRouter,
    router::{RouterAddress, RouterKey, place},
    wire::eth,
};

use crate::{
    bpf::maps::{ROUTER_ADDRESSES, ROUTER_IDS, VIRTUAL_ROUTERS},
    packet::{Packet, parsed::Parsed},
};

/// Now, in nanoseconds of the monotonic clock.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The virtual router with an id, in the family, interface and VLAN of the packet.
#[inline(always)]
pub fn by_id<F: Family>(packet: &Packet, parsed: &Parsed<F>, id: u8) -> Result<*mut VirtualRouter, Outcome> {
    let key = RouterKey {
        interface: packet.interface(),
        tags: parsed.tags.0 & Tags::VLANS,
        router: id as u16,
        family: F::NUMBER as u16,
    };
    by_key(&key).ok_or(Outcome::NotOurs)
}

/// The virtual router of a key.
#[inline(always)]
pub fn by_key(key: &RouterKey) -> Option<*mut VirtualRouter> {
    // SAFETY: the value is one word that the controller writes whole.
    let index = unsafe { ROUTER_IDS.get(key) }?;
    VIRTUAL_ROUTERS.get_ptr_mut(*index)
}

/// The virtual router of an address, and whether the address refuses packets that belong to no
/// service.
#[inline(always)]
pub fn by_address(address: &RouterAddress) -> Result<(*mut VirtualRouter, bool), Outcome> {
    // SAFETY: the value is one word that the controller writes whole.
    let place = unsafe { ROUTER_ADDRESSES.get(address) }.ok_or(Outcome::NotOurs)?;
    let router = VIRTUAL_ROUTERS.get_ptr_mut(place::index(*place));
    Ok((router.ok_or(Outcome::NotOurs)?, place::refuses(*place)))
}

/// As [`by_address`], for the destination of a packet.
#[inline(always)]
pub fn of_destination<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> Result<(*mut VirtualRouter, bool), Outcome> {
    by_address(&RouterAddress {
        interface: packet.interface(),
        tags: parsed.tags.0 & Tags::VLANS,
        family: F::NUMBER as u32,
        address: F::widen(&parsed.key.destination),
    })
}

/// The fields that decide whether this balancer answers for the virtual router.
#[inline(always)]
pub fn read(router: *mut VirtualRouter) -> VirtualRouter {
    // SAFETY: within the value of the map; each word is written whole.
    unsafe {
        VirtualRouter {
            renewed: core::ptr::read_volatile(&raw const (*router).renewed),
            until: core::ptr::read_volatile(&raw const (*router).until),
            patience: core::ptr::read_volatile(&raw const (*router).patience),
            heard: core::ptr::read_volatile(&raw const (*router).heard),
            heard_mac: core::ptr::read_volatile(&raw const (*router).heard_mac),
            relay_until: core::ptr::read_volatile(&raw const (*router).relay_until),
            ..VirtualRouter::ZERO
        }
    }
}

/// The interface's own link-layer address, in the form of [`VirtualRouter::own_mac`].
#[inline(always)]
pub fn own_mac(router: *mut VirtualRouter) -> u64 {
    // SAFETY: within the value of the map; the word is written whole.
    unsafe { core::ptr::read_volatile(&raw const (*router).own_mac) }
}

/// The link-layer address of the other balancer, in the form of [`VirtualRouter::heard_mac`].
#[inline(always)]
pub fn heard_mac(router: *mut VirtualRouter) -> u64 {
    // SAFETY: within the value of the map; the word is written whole.
    unsafe { core::ptr::read_volatile(&raw const (*router).heard_mac) }
}

/// The link-layer address that the frame comes from, in the form of [`VirtualRouter::heard_mac`].
#[inline(always)]
pub fn sender(packet: &Packet) -> Result<u64, Outcome> {
    let header = packet.window::<{ eth::LENGTH }>(0)?;
    Ok(header.load::<u32>(eth::SOURCE) as u64 | (header.load::<u16>(eth::SOURCE + 4) as u64) << 32)
}

/// Notes the link-layer address of the other balancer.
#[inline(always)]
pub fn note_mac(router: *mut VirtualRouter, mac: u64) {
    // SAFETY: within the value; only the packet path writes the field, whole.
    unsafe { core::ptr::write_volatile(&raw mut (*router).heard_mac, mac) };
}

/// The version of the adverts of a virtual router.
#[inline(always)]
pub fn version(router: *mut VirtualRouter) -> u64 {
    // SAFETY: within the value of the map; the word is written whole.
    unsafe { core::ptr::read_volatile(&raw const (*router).version) }
}

/// Notes sender, priority and time of an advert.
#[inline(always)]
pub fn note_advert(router: *mut VirtualRouter, from: &[u32; 4], priority: u8) {
    // SAFETY: within the value; only the packet path writes these fields, each whole, and the last
    // advert counts.
    unsafe {
        let mut i = 0;
        while i < from.len() {
            core::ptr::write_volatile((&raw mut (*router).heard_from[0]).add(i), from[i]);
            i += 1;
        }
        core::ptr::write_volatile(&raw mut (*router).heard_priority, priority as u32);
        core::ptr::write_volatile(&raw mut (*router).heard, now());
    }
}

/// Whether the last advert came from this balancer.
#[inline(always)]
pub fn is_heard(router: *mut VirtualRouter, from: &[u32; 4]) -> bool {
    let mut differs = 0;
    let mut i = 0;
    while i < from.len() {
        // SAFETY: within the value; each word is written whole.
        differs |= from[i] ^ unsafe { core::ptr::read_volatile((&raw const (*router).heard_from[0]).add(i)) };
        i += 1;
    }
    differs == 0
}
