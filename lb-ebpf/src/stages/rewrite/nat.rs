//! NAT: translates addresses and ports, with incremental checksums.

use lb_common::{
    Outcome, Ports,
    checksum::Delta,
    wire::{tcp, udp},
};

use crate::{
    family::Headers,
    packet::{Packet, parsed::Parsed},
};

/// Writes addresses and ports, decrements the hop limit, and corrects all checksums.
#[inline(always)]
pub fn rewrite<F: Headers>(
    packet: &Packet,
    parsed: &Parsed<F>,
    source: &F::Address,
    destination: &F::Address,
    ports: Ports,
) -> Result<(), Outcome> {
    if parsed.transport.ttl <= 1 {
        return Err(Outcome::TtlExceeded);
    }
    let mut delta = Delta::NONE;
    change(&mut delta, &parsed.key.source, source);
    change(&mut delta, &parsed.key.destination, destination);
    F::write_ip(packet, parsed.transport.l3, source, destination, delta)?;
    if !parsed.has_header {
        return Ok(());
    }
    delta.word32(parsed.key.ports.0, ports.0);
    if parsed.is_udp() {
        let header = packet.window::<{ udp::LENGTH }>(parsed.transport.offset)?;
        header.store(udp::SOURCE_PORT, ports.0);
        header.store(udp::CHECKSUM, delta.apply_udp(header.load(udp::CHECKSUM)));
    } else {
        let header = packet.window::<{ tcp::LENGTH }>(parsed.transport.offset)?;
        header.store(tcp::SOURCE_PORT, ports.0);
        header.store(tcp::CHECKSUM, delta.apply(header.load(tcp::CHECKSUM)));
    }
    Ok(())
}

/// Adds the change of an address to a change of a checksum.
#[inline(always)]
pub fn change<A: AsRef<[u32]>>(delta: &mut Delta, old: &A, new: &A) {
    let (old, new) = (old.as_ref(), new.as_ref());
    let mut i = 0;
    while i < old.len() && i < new.len() {
        delta.word32(old[i], new[i]);
        i += 1;
    }
}
