//! Full NAT: both addresses and both ports, in either direction.

use lb_common::{
    FlowKey, Outcome,
    checksum::Delta,
    wire::{tcp, udp},
};

use crate::{family::Stages, packet::Packet, parse::Parsed};

/// Gives the packet the 5-tuple `rewrite`, one hop less, and right checksums.
#[inline(always)]
pub fn rewrite<F: Stages>(packet: &Packet, parsed: &Parsed<F>, rewrite: &FlowKey<F>) -> Result<(), Outcome> {
    if parsed.transport.ttl <= 1 {
        return Err(Outcome::TtlExceeded);
    }
    let mut delta = Delta::NONE;
    change(&mut delta, &parsed.key.source, &rewrite.source);
    change(&mut delta, &parsed.key.destination, &rewrite.destination);
    F::write_ip(packet, rewrite, delta)?;

    delta.word16(parsed.key.source_port.memory(), rewrite.source_port.memory());
    delta.word16(parsed.key.destination_port.memory(), rewrite.destination_port.memory());
    if parsed.is_udp() {
        let header = packet.window::<{ udp::LENGTH }>(parsed.transport.offset)?;
        header.store(udp::SOURCE_PORT, rewrite.source_port.memory());
        header.store(udp::DESTINATION_PORT, rewrite.destination_port.memory());
        header.store(udp::CHECKSUM, delta.apply_udp(header.load(udp::CHECKSUM)));
    } else {
        let header = packet.window::<{ tcp::LENGTH }>(parsed.transport.offset)?;
        header.store(tcp::SOURCE_PORT, rewrite.source_port.memory());
        header.store(tcp::DESTINATION_PORT, rewrite.destination_port.memory());
        header.store(tcp::CHECKSUM, delta.apply(header.load(tcp::CHECKSUM)));
    }
    Ok(())
}

#[inline(always)]
fn change<A: AsRef<[u32]>>(delta: &mut Delta, old: &A, new: &A) {
    let (old, new) = (old.as_ref(), new.as_ref());
    let mut i = 0;
    while i < old.len() && i < new.len() {
        delta.word32(old[i], new[i]);
        i += 1;
    }
}
