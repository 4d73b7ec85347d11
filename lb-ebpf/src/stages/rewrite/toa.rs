//! TOA: the TCP option with the client's address and port, for workers of `nat`.
//!
//! Kind 254 has port and IPv4 address, kind 253 port and IPv6 address, as kernel modules and
//! proxies use them. Only segments of the handshake carry it: workers read it from the SYN, or from
//! the segment that completes the handshake.

use lb_common::{
    Event, Family, V6,
    checksum::Delta,
    flow_table::Layout,
    wire::{ipv4, ipv6, tcp},
};

use crate::{
    bpf::counters,
    family::Headers,
    flow::scratch::scratch,
    packet::{MOST_OFFSET, Packet, Window, parsed::Parsed},
};

/// Kind and length of the option with an IPv4 address.
const OPTION_V4: u16 = 254 | 8 << 8;
/// Kind and length of the option with an IPv6 address.
const OPTION_V6: u16 = 253 | 20 << 8;
/// RFC 9293, section 3.1: the data offset has four bits, so that a header has at most 60 bytes.
const LONGEST_HEADER: usize = 60;

/// Length of the option of a family, in bytes.
#[inline(always)]
const fn size<F: Headers>() -> usize {
    4 + 4 * F::WORDS
}

/// Inserts the option with the packet's source after the TCP header, before all other options.
/// Returns whether it did.
///
/// A segment gets no option if it has no space for one, or if its IP header has options or
/// extensions.
#[inline(never)]
pub fn insert<F: Headers + Layout>(packet: &Packet, parsed: &Parsed<F>, mtu: u32) -> bool {
    let transport = &parsed.transport;
    let is_plain = transport.offset == transport.l3 + F::HEADER && transport.fragment == 0;
    let fits = mtu == 0 || transport.packet_length + size::<F>() <= mtu as usize;
    if is_plain && fits && put(packet, parsed).is_some() {
        return true;
    }
    counters::event(Event::ToaNoSpace);
    false
}

/// Whether a segment without our option can have one that the client made, which the worker would
/// trust. Any byte of the options that equals a kind counts.
#[inline(never)]
pub fn may_be_forged<F: Headers>(packet: &Packet, parsed: &Parsed<F>) -> bool {
    let offset = parsed.transport.offset;
    if offset > MOST_OFFSET {
        return true;
    }
    let Ok(header) = packet.window::<{ tcp::LENGTH }>(offset) else {
        return true;
    };
    let length = (header.load::<u8>(tcp::DATA_OFFSET) >> 4) as usize * 4;
    let mut at = tcp::LENGTH;
    while at < LONGEST_HEADER {
        if at >= length {
            return false;
        }
        let Ok(word) = packet.window::<4>(offset + at) else {
            return true;
        };
        let bytes: u32 = word.load(0);
        if has_zero(bytes ^ 0xfefe_fefe) | has_zero(bytes ^ 0xfdfd_fdfd) {
            return true;
        }
        at += 4;
    }
    false
}

/// Whether one of four bytes is zero.
#[inline(always)]
const fn has_zero(bytes: u32) -> bool {
    bytes.wrapping_sub(0x0101_0101) & !bytes & 0x8080_8080 != 0
}

#[inline(always)]
fn put<F: Headers + Layout>(packet: &Packet, parsed: &Parsed<F>) -> Option<()> {
    let size = size::<F>();
    // The caller compared the offset. The verifier needs to see that it is small.
    let offset = (parsed.transport.l3 & 31) + F::HEADER;
    let header: Window<{ tcp::LENGTH }> = packet.window(offset).ok()?;
    let length = (header.load::<u8>(tcp::DATA_OFFSET) >> 4) as usize * 4;
    if length + size > LONGEST_HEADER {
        return None;
    }
    packet.grow_front(size as i32).ok()?;
    let scratch = scratch::<F>()?;
    let moved = offset + tcp::LENGTH;
    if moved > scratch.headers.len() {
        return None;
    }
    packet.copy_to(size, scratch.headers.as_mut_ptr(), moved as u32).ok()?;
    packet.copy_from(0, scratch.headers.as_ptr(), moved as u32).ok()?;
    let mut delta = Delta::NONE;
    let option = packet.window::<4>(offset + tcp::LENGTH).ok()?;
    let kind = if F::NUMBER == V6::NUMBER { OPTION_V6 } else { OPTION_V4 };
    let port = parsed.key.ports.source().memory();
    option.store(0, kind);
    option.store(2, port);
    delta.word16(0, kind);
    delta.word16(0, port);
    let address = parsed.key.source.as_ref();
    let mut i = 0;
    while i < address.len() {
        let word = packet.window::<4>(offset + tcp::LENGTH + 4 + 4 * i).ok()?;
        word.store(0, address[i]);
        delta.word32(0, address[i]);
        i += 1;
    }
    let header: Window<{ tcp::LENGTH }> = packet.window(offset).ok()?;
    let old: u16 = header.load(tcp::DATA_OFFSET);
    let new = old + (size as u16 / 4) * 16;
    header.store(tcp::DATA_OFFSET, new);
    delta.word16(old, new);
    // RFC 9293, section 3.1: the pseudo-header has the length of the segment.
    let length = parsed.transport.length as u16;
    delta.word16(length.to_be(), (length + size as u16).to_be());
    header.store(tcp::CHECKSUM, delta.apply(header.load(tcp::CHECKSUM)));
    lengthen::<F>(packet, offset - F::HEADER, size as u16)
}

/// Adds to the length in the IP header.
#[inline(always)]
fn lengthen<F: Headers>(packet: &Packet, l3: usize, size: u16) -> Option<()> {
    if F::NUMBER == V6::NUMBER {
        let header: Window<{ ipv6::LENGTH }> = packet.window(l3).ok()?;
        let old = u16::from_be(header.load(ipv6::PAYLOAD_LENGTH));
        header.store(ipv6::PAYLOAD_LENGTH, (old + size).to_be());
    } else {
        let header: Window<{ ipv4::LENGTH }> = packet.window(l3).ok()?;
        let old: u16 = header.load(ipv4::TOTAL_LENGTH);
        let new = (u16::from_be(old) + size).to_be();
        let mut delta = Delta::NONE;
        delta.word16(old, new);
        header.store(ipv4::TOTAL_LENGTH, new);
        header.store(ipv4::CHECKSUM, delta.apply(header.load(ipv4::CHECKSUM)));
    }
    Some(())
}
