//! Turns a TCP segment into the RST that answers it.

use lb_common::{Outcome, checksum::fold, wire::tcp};

use crate::{
    bpf::number::outcome,
    family::Headers,
    packet::{Packet, Window, frame, parsed::Parsed},
};

/// Turns the segment into the RST that answers it. Returns `reason`, which is then counted.
///
/// RFC 9293, section 3.10.7.1: "If the ACK bit is off, sequence number zero is used,
/// <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>."
#[inline(never)]
pub fn answer<F: Headers>(packet: &Packet, parsed: &Parsed<F>, reason: Outcome) -> Outcome {
    outcome(write(packet, parsed, reason))
}

#[inline(always)]
fn write<F: Headers>(packet: &Packet, parsed: &Parsed<F>, reason: Outcome) -> Result<Outcome, Outcome> {
    if parsed.flags & tcp::RST != 0 {
        return Err(Outcome::StrayReset);
    }
    if !parsed.has_header {
        return Err(Outcome::FragmentUnknown);
    }
    let segment = packet.window::<{ tcp::LENGTH }>(parsed.transport.offset)?;
    let (sequence, acknowledgment, flags) = if parsed.flags & tcp::ACK != 0 {
        (segment.load::<u32>(tcp::ACKNOWLEDGMENT), 0, tcp::RST)
    } else {
        let end = u32::from_be(segment.load(tcp::SEQUENCE)).wrapping_add(segment_length(parsed, &segment));
        (0, end.to_be(), tcp::RST | tcp::ACK)
    };

    let l3 = parsed.transport.l3;
    let offset = l3 + F::HEADER;
    packet.resize(offset + tcp::LENGTH)?;
    frame::turn_around(packet)?;
    let (source, destination) = (&parsed.key.destination, &parsed.key.source);
    F::write_fresh_ip(packet, l3, source, destination, tcp::PROTOCOL, tcp::LENGTH as u16)?;

    let ports = parsed.key.ports.reversed();
    let offset_flags = (0x5000 | flags as u16).to_be();
    let header = packet.window::<{ tcp::LENGTH }>(offset)?;
    header.store(tcp::SOURCE_PORT, ports.0);
    header.store(tcp::SEQUENCE, sequence);
    header.store(tcp::ACKNOWLEDGMENT, acknowledgment);
    header.store(tcp::DATA_OFFSET, offset_flags);
    header.store(tcp::DATA_OFFSET + 2, 0_u16); // window
    header.store(tcp::CHECKSUM + 2, 0_u16); // urgent pointer
    let pseudo = (tcp::PROTOCOL as u16).to_be() as u64 + (tcp::LENGTH as u16).to_be() as u64;
    let sum = pseudo
        + words(source)
        + words(destination)
        + ports.0 as u64
        + sequence as u64
        + acknowledgment as u64
        + offset_flags as u64;
    header.store(tcp::CHECKSUM, !fold(sum));
    Ok(reason)
}

/// RFC 9293, section 3.4: "SEG.LEN = the number of octets occupied by the data in the segment
/// (counting SYN and FIN)".
#[inline(always)]
fn segment_length<F: Headers>(parsed: &Parsed<F>, segment: &Window<{ tcp::LENGTH }>) -> u32 {
    let header_length = (segment.load::<u8>(tcp::DATA_OFFSET) >> 4) as u32 * 4;
    let data = (parsed.transport.length as u32).wrapping_sub(header_length);
    data + (parsed.flags & tcp::SYN != 0) as u32 + (parsed.flags & tcp::FIN != 0) as u32
}

#[inline(always)]
fn words<A: AsRef<[u32]>>(address: &A) -> u64 {
    let mut sum = 0;
    let mut i = 0;
    while i < address.as_ref().len() {
        sum += address.as_ref()[i] as u64;
        i += 1;
    }
    sum
}
