//! Delivers responses of health checks, whose source is a virtual address, to the sockets of the
//! checks.
//!
//! It runs before the kernel checks source addresses: the kernel drops a packet from one of its own
//! addresses as forged.

#![no_std]
#![no_main]
#![allow(
    missing_docs,
    reason = "a program, not a library; the macro for classifiers emits an undocumented function"
)]

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_OK},
    btf_maps::LruHashMap,
    cty::c_long,
    helpers::bpf_redirect,
    macros::{btf_map, classifier},
    programs::TcContext,
};
use lb_common::{
    check_answer::{self, Answer, AnswerKey},
    wire::{eth, ipv4, ipv6, tcp, udp},
};

#[btf_map]
static ANSWERS: LruHashMap<AnswerKey, Answer, { check_answer::CAPACITY }> = LruHashMap::new();

/// Rewrites the source of an expected response, and redirects it to the interface of the checks.
#[classifier]
pub fn lb_answers(context: TcContext) -> i32 {
    match answer(&context) {
        Ok(Some(action)) => action,
        _ => TC_ACT_OK,
    }
}

/// Offsets of source address and transport header, and the key of the connection.
struct Place {
    source: usize,
    transport: usize,
    key: AnswerKey,
}

#[inline(always)]
fn answer(context: &TcContext) -> Result<Option<i32>, c_long> {
    let place = match u16::from_be(context.skb.protocol() as u16) {
        eth::IPV4 => place_v4(context)?,
        eth::IPV6 => place_v6(context)?,
        _ => return Ok(None),
    };
    let Some(place) = place else { return Ok(None) };
    // SAFETY: the values of this map are constant.
    let Some(answer) = (unsafe { ANSWERS.get(place.key) }) else {
        return Ok(None);
    };
    rewrite(context, &place, answer)?;
    // SAFETY: the helper checks its arguments.
    Ok(Some(
        unsafe { bpf_redirect(answer.interface, BPF_F_INGRESS.into()) } as i32
    ))
}

#[inline(always)]
fn place_v4(context: &TcContext) -> Result<Option<Place>, c_long> {
    let l3 = eth::LENGTH;
    let first: u8 = context.load(l3 + ipv4::VERSION_IHL)?;
    let fragment = u16::from_be(context.load(l3 + ipv4::FRAGMENT)?);
    if fragment & ipv4::FRAGMENT_MASK != 0 {
        return Ok(None);
    }
    let transport = l3 + usize::from(first & 15) * 4;
    let mut key = key(context, transport, context.load(l3 + ipv4::PROTOCOL)?)?;
    key.family = 4;
    key.source[0] = context.load(l3 + ipv4::SOURCE)?;
    Ok(Some(Place {
        source: l3 + ipv4::SOURCE,
        transport,
        key,
    }))
}

/// Packets with extension headers are not responses of checks.
#[inline(always)]
fn place_v6(context: &TcContext) -> Result<Option<Place>, c_long> {
    let l3 = eth::LENGTH;
    let transport = l3 + ipv6::LENGTH;
    let mut key = key(context, transport, context.load(l3 + ipv6::NEXT_HEADER)?)?;
    key.family = 6;
    key.source = context.load(l3 + ipv6::SOURCE)?;
    Ok(Some(Place {
        source: l3 + ipv6::SOURCE,
        transport,
        key,
    }))
}

#[inline(always)]
fn key(context: &TcContext, transport: usize, protocol: u8) -> Result<AnswerKey, c_long> {
    let mut key = AnswerKey::ZERO;
    if protocol == tcp::PROTOCOL || protocol == udp::PROTOCOL {
        // Both have their ports at the same offsets.
        key.source_port = context.load(transport + tcp::SOURCE_PORT)?;
        key.destination_port = context.load(transport + tcp::DESTINATION_PORT)?;
    }
    key.protocol = protocol;
    Ok(key)
}

#[inline(always)]
fn rewrite(context: &TcContext, place: &Place, answer: &Answer) -> Result<(), c_long> {
    let (checksum, zero) = if place.key.protocol == tcp::PROTOCOL {
        (place.transport + tcp::CHECKSUM, 0)
    } else {
        (place.transport + udp::CHECKSUM, BPF_F_MARK_MANGLED_0)
    };
    let flags = u64::from(BPF_F_PSEUDO_HDR | zero) | 4;
    let words = if place.key.family == 4 { 1 } else { 4 };
    for word in 0..4 {
        if word >= words {
            break;
        }
        let (old, new) = (place.key.source[word], answer.placeholder[word]);
        context.l4_csum_replace(checksum, old.into(), new.into(), flags)?;
        if place.key.family == 4 {
            let header = eth::LENGTH + ipv4::CHECKSUM;
            context.l3_csum_replace(header, old.into(), new.into(), 4)?;
        }
        context.store(place.source + 4 * word, &new, 0)?;
    }
    Ok(())
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
