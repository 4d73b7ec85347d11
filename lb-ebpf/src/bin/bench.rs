//! Programs of `cargo xtask bench packets`: a wrapper that calls a target with the same packet
//! again and again, and floors to compare a target with.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "the target's atomics are reachable only as intrinsics")]
#![feature(core_intrinsics)]
#![allow(
    missing_docs,
    reason = "a program, not a library; the macro for XDP emits an undocumented function"
)]

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_xadd};

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    btf_maps::{Array, ProgramArray},
    helpers::{bpf_tail_call, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Bytes of a packet that are restored. Every packet of the bench has this length.
const LENGTH: usize = 96;
/// Length of a link-layer header in bytes.
const ETHERNET: usize = 14;
/// Length of the outer header that the floor for tunnels writes, in bytes.
const OUTER: usize = 20;

/// What the wrapper does. The bench writes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Script {
    /// The packet, as 64-bit words in memory order.
    packet: [u64; LENGTH / 8],
    /// Number of flows less one, as a mask.
    mask: u64,
    /// Offset of the last 32 bits of the source address.
    address: u32,
    /// Offset of the source port.
    port: u32,
    /// Index of the target in `TARGETS`.
    target: u32,
    /// Always zero.
    reserved: u32,
}

#[btf_map]
static SCRIPT: Array<Script, 1> = Array::new();
#[btf_map]
static TURNS: Array<u64, 1> = Array::new();
#[btf_map]
static TARGETS: ProgramArray<8> = ProgramArray::new();

/// Restores the packet, varies its source, and calls the target.
#[xdp]
pub fn wrapper(context: XdpContext) -> u32 {
    let Some(script) = SCRIPT.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let Some(turns) = TURNS.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let length = context.data_end() - context.data();
    if length > LENGTH {
        // The target added a header before the packet.
        // SAFETY: the helper checks its arguments; so below.
        unsafe { bpf_xdp_adjust_head(context.ctx, length as i32 - LENGTH as i32) };
    } else if length < LENGTH {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_tail(context.ctx, LENGTH as i32 - length as i32) };
    }
    let data = context.data();
    if data + LENGTH > context.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    for (word, value) in script.packet.iter().enumerate() {
        // SAFETY: within the packet, by the check above.
        unsafe { core::ptr::write_volatile((data as *mut u64).add(word), *value) };
    }
    // The addition is also a barrier: the target does not wait for stores of the last turn.
    // SAFETY: a pointer to a map value.
    let turn = unsafe { atomic_xadd::<u64, u64, { SeqCst }>(turns, 1) } & script.mask;
    let (address, port) = (script.address as usize & 63, script.port as usize & 63);
    if script.mask != 0 {
        place(&context, address, (0x0b00_0000 + (turn >> 15) as u32).to_be());
        place(&context, port, (20_000 + (turn & 0x7fff) as u16).to_be());
    }
    call(context.ctx, script.target);
    xdp_action::XDP_DROP
}

/// Writes a number into the packet, if the offset is within it.
#[inline(always)]
fn place<T>(context: &XdpContext, offset: usize, number: T) {
    let start = context.data() + offset;
    if start + size_of::<T>() <= context.data_end() {
        // SAFETY: within the packet, by the check.
        unsafe { core::ptr::write_volatile(start as *mut T, number) };
    }
}

/// A tail call in a function of its own: it returns to the wrapper.
#[inline(never)]
fn call(context: *mut xdp_md, target: u32) -> i32 {
    // SAFETY: the map is a program array, and the context is the program's own.
    unsafe { bpf_tail_call(context.cast(), core::ptr::from_ref(&TARGETS).cast_mut().cast(), target) as i32 }
}

/// Does nothing.
#[xdp]
pub fn floor_null(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Swaps the link-layer addresses.
#[xdp]
pub fn floor_mac_swap(context: XdpContext) -> u32 {
    match swap(context.data(), context.data_end()) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

/// What any tunnel must do: adds space for an outer IPv4 header, and writes it after a link-layer
/// header. The wrapper removes the space again, as for a tunnel.
#[xdp]
pub fn floor_adjust_head(context: XdpContext) -> u32 {
    // SAFETY: the helper checks its arguments.
    if unsafe { bpf_xdp_adjust_head(context.ctx, -(OUTER as i32)) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let data = context.data();
    if data + ETHERNET + OUTER > context.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let (link, ip) = (data as *mut u32, (data + ETHERNET) as *mut u32);
    // SAFETY: within the packet, by the check.
    unsafe {
        for word in 0..3 {
            core::ptr::write_volatile(link.add(word), 0x0200_0002);
        }
        core::ptr::write_volatile((data + ETHERNET - 2) as *mut u16, 0x0800_u16.to_be());
        for word in 0..OUTER / 4 {
            core::ptr::write_volatile(ip.add(word), 0x4500_0045);
        }
    }
    xdp_action::XDP_TX
}

#[inline(always)]
fn swap(data: usize, end: usize) -> Option<()> {
    if data + ETHERNET > end {
        return None;
    }
    let words = data as *mut u16;
    for word in 0..3 {
        // SAFETY: within the 14 bytes that were checked.
        unsafe {
            let (to, from) = (
                core::ptr::read_volatile(words.add(word)),
                core::ptr::read_volatile(words.add(word + 3)),
            );
            core::ptr::write_volatile(words.add(word), from);
            core::ptr::write_volatile(words.add(word + 3), to);
        }
    }
    Some(())
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
