//! Turns a packet that is larger than the path's MTU into the ICMP message that answers it.

use aya_ebpf::helpers::bpf_csum_diff;
use lb_common::{
    Family, Outcome, V6,
    checksum::fold,
    wire::{eth, icmp},
};

use crate::{
    bpf::number::outcome,
    family::Headers,
    packet::{Packet, frame, parsed::Parsed},
};

/// How much of the packet is quoted, in bytes: more than its headers. The packet is longer, or it
/// would fit.
const QUOTE: usize = 128;
/// RFC 791: "Every internet module must be able to forward a datagram of 68 octets without further
/// fragmentation"; RFC 8200, section 5: "every link in the Internet have an MTU of 1280 octets or
/// greater". A smaller MTU gets no answer.
const SMALLEST: usize = 576;

/// Turns the packet into the ICMP message that announces `mtu`.
///
/// RFC 1191, section 4: code 4 with "the MTU of that next-hop network in the low-order 16 bits".
/// RFC 4443, section 3.2: packet too big, with "the Maximum Transmission Unit of the next-hop
/// link".
#[inline(never)]
pub fn answer<F: Headers>(packet: &Packet, parsed: &Parsed<F>, mtu: usize) -> Outcome {
    outcome(write(packet, parsed, mtu))
}

#[inline(always)]
fn write<F: Headers>(packet: &Packet, parsed: &Parsed<F>, mtu: usize) -> Result<Outcome, Outcome> {
    let transport = &parsed.transport;
    // The generic hook can merge frames into one that is larger than any link. The kernel splits it
    // again when it sends it.
    if transport.packet_length < QUOTE || mtu < SMALLEST {
        return Err(Outcome::Malformed);
    }
    let l3 = transport.l3;
    packet.resize(l3 + QUOTE)?;
    packet.grow_front((F::HEADER + icmp::LENGTH) as i32)?;
    // Copy the frame's header to its new start.
    let old = packet.window::<{ eth::LONGEST }>(F::HEADER + icmp::LENGTH)?;
    let new = packet.window::<{ eth::LONGEST }>(0)?;
    let mut word = 0;
    while word < eth::LONGEST / 2 {
        new.store(2 * word, old.load::<u16>(2 * word));
        word += 1;
    }
    frame::turn_around(packet)?;
    let (source, destination) = (&parsed.key.destination, &parsed.key.source);
    F::write_fresh_ip(packet, l3, source, destination, F::ICMP, (icmp::LENGTH + QUOTE) as u16)?;
    let message = packet.window::<{ icmp::LENGTH + QUOTE }>(l3 + F::HEADER)?;
    let kind: u16 = if F::NUMBER == V6::NUMBER {
        icmp::PACKET_TOO_BIG_V6 as u16
    } else {
        icmp::UNREACHABLE as u16 | (icmp::FRAGMENTATION_NEEDED as u16) << 8
    };
    message.store(icmp::TYPE, kind);
    message.store(icmp::CHECKSUM, 0_u16);
    message.store(icmp::MTU, (mtu as u32).to_be());
    let start = message.start();
    // SAFETY: the window has this length, a multiple of four.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, start.cast(), (icmp::LENGTH + QUOTE) as u32, 0) };
    if sum < 0 {
        return Err(Outcome::Malformed);
    }
    let mut sum = sum as u64 & 0xffff_ffff;
    if F::NUMBER == V6::NUMBER {
        // RFC 4443, section 2.3: ICMPv6 checksums include a pseudo-header.
        sum += (F::ICMP as u16).to_be() as u64 + ((icmp::LENGTH + QUOTE) as u16).to_be() as u64;
        sum += words(source.as_ref()) + words(destination.as_ref());
    }
    message.store(icmp::CHECKSUM, !fold(sum));
    Ok(Outcome::TooBig)
}

#[inline(always)]
fn words(address: &[u32]) -> u64 {
    let mut sum = 0;
    let mut i = 0;
    while i < address.len() {
        sum += address[i] as u64;
        i += 1;
    }
    sum
}
