//! The XDP program: the only place that knows XDP actions.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "the target's atomics are reachable only as intrinsics")]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(
    missing_docs,
    reason = "a program, not a library; the macro for XDP emits an undocumented function"
)]

mod atomic;
mod cells;
mod client_hop;
mod emit;
mod family;
mod fast;
mod global;
mod guard;
mod icmp;
mod lookup;
mod maps;
mod packet;
mod parse;
mod pipeline;
mod punt;
mod repeat;
mod reset;
mod rewrite;
mod room;
mod router_mac;
mod select;
mod slow;
mod stats;
mod toa;
mod too_big;
mod track;
mod unusual;
mod verdict;
mod vrrp;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use lb_common::{Action, Outcome, V4, V6};
use packet::Packet;

/// Entry point for every packet of every interface that the controller attached.
#[xdp]
pub fn lb_xdp(context: XdpContext) -> u32 {
    let packet = Packet::new(context);
    finish(&packet, fast::run(&packet))
}

/// Goes on with IPv4 packets that [`lb_xdp`] leaves.
#[xdp]
pub fn lb_slow_v4(context: XdpContext) -> u32 {
    conclude(slow::run::<V4>(&Packet::new(context)))
}

/// Goes on with IPv6 packets that [`lb_xdp`] leaves.
#[xdp]
pub fn lb_slow_v6(context: XdpContext) -> u32 {
    conclude(slow::run::<V6>(&Packet::new(context)))
}

/// Goes on with packets of this link that [`lb_xdp`] leaves.
#[xdp]
pub fn lb_vrrp(context: XdpContext) -> u32 {
    let packet = Packet::new(context);
    finish(&packet, vrrp::run(&packet))
}

/// Concludes with an outcome, or goes on with the program at an index of the map `PROGRAMS`.
#[inline(always)]
fn finish(packet: &Packet, way: Result<Outcome, u32>) -> u32 {
    match way {
        Ok(outcome) => conclude(outcome as u32),
        Err(program) => {
            packet.go_on(program);
            // The program that goes on is not there.
            conclude(Outcome::Inconsistent as u32)
        }
    }
}

/// Counts the outcome with this number; returns its XDP action.
#[inline(always)]
fn conclude(number: u32) -> u32 {
    stats::count(number);
    match Outcome::action_of(number) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Transmit => xdp_action::XDP_TX,
        Action::Redirect => xdp_action::XDP_REDIRECT,
    }
}

/// Tells the controller, which runs it by itself, the lower half of the kernel's jiffies: the clock of the flow table.
#[xdp]
pub fn lb_clock(_context: XdpContext) -> u32 {
    // SAFETY: the helper takes no arguments.
    (unsafe { aya_ebpf::helpers::bpf_jiffies64() }) as u32
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
