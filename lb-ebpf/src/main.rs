//! The XDP program. Only this file names XDP actions.
//!
//! Each folder uses only those before it: `bpf`, `packet`, `family`, `flow`, `stages`, `replies`,
//! `vrrp`, `path`.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "the target's atomics are reachable only as intrinsics")]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(
    missing_docs,
    reason = "a program, not a library; the macro for XDP emits an undocumented function"
)]

mod bpf;
mod family;
mod flow;
mod packet;
mod path;
mod replies;
mod stages;
mod vrrp;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use bpf::counters;
use lb_common::{Action, Outcome, V4, V6};
use packet::Packet;
use path::{fast, slow};

/// Entry point for every packet of every interface that the controller attached.
#[xdp]
pub fn lb_xdp(context: XdpContext) -> u32 {
    let packet = Packet::new(context);
    finish(&packet, fast::run(&packet))
}

/// The slow path of IPv4 packets, called by [`lb_xdp`].
#[xdp]
pub fn lb_slow_v4(context: XdpContext) -> u32 {
    action(slow::run::<V4>(&Packet::new(context)))
}

/// The slow path of IPv6 packets, called by [`lb_xdp`].
#[xdp]
pub fn lb_slow_v6(context: XdpContext) -> u32 {
    action(slow::run::<V6>(&Packet::new(context)))
}

/// VRRP, ARP and neighbour discovery, called by [`lb_xdp`].
#[xdp]
pub fn lb_vrrp(context: XdpContext) -> u32 {
    let packet = Packet::new(context);
    finish(&packet, vrrp::run(&packet))
}

/// Returns the action of an outcome, or calls the program at an index of the map `PROGRAMS`.
#[inline(always)]
fn finish(packet: &Packet, decision: Result<Outcome, u32>) -> u32 {
    match decision {
        Ok(outcome) => action(outcome),
        Err(program) => {
            packet.tail_call(program);
            // That program is missing.
            action(Outcome::Inconsistent)
        }
    }
}

/// Counts an outcome, and returns its XDP action.
#[inline(always)]
fn action(outcome: Outcome) -> u32 {
    counters::count(outcome);
    match Outcome::action_of(outcome as u32) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Transmit => xdp_action::XDP_TX,
        Action::Redirect => xdp_action::XDP_REDIRECT,
    }
}

/// Returns the lower half of the kernel's jiffies, the clock of the flow table. The controller runs
/// this program itself.
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
