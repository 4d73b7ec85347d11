//! The XDP program: the only place that knows XDP actions.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "the target's atomics are reachable only as intrinsics")]
#![feature(core_intrinsics)]
#![allow(
    missing_docs,
    reason = "a program, not a library; the macro for XDP emits an undocumented function"
)]

mod atomic;
mod emit;
mod family;
mod lookup;
mod maps;
mod packet;
mod parse;
mod pipeline;
mod punt;
mod repeat;
mod reset;
mod rewrite;
mod select;
mod stats;
mod track;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use lb_common::Action;

/// Entry point for every packet of every interface that the controller attached.
#[xdp]
pub fn lb_xdp(context: XdpContext) -> u32 {
    let outcome = pipeline::run(&packet::Packet::new(context));
    stats::count(outcome);
    match outcome.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Transmit => xdp_action::XDP_TX,
        Action::Redirect => xdp_action::XDP_REDIRECT,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
