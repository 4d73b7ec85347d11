//! Liveness echo: answers another balancer's probe, with the state of the lease.

use lb_common::{
    Family, Outcome, V4,
    checksum::Delta,
    router::echo,
    wire::{ipv4, ipv6, udp},
};

use super::router::{self, sender};
use crate::packet::{Packet, Window, frame, parsed::Parsed};

/// Length of a probe or its answer, from the UDP header on.
const WHOLE: usize = udp::LENGTH + echo::LENGTH;

/// Answers a probe, and notes the sender of probes and answers.
#[inline(always)]
pub fn answer<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> Result<Outcome, Outcome> {
    let datagram = packet.window::<WHOLE>(parsed.transport.offset)?;
    let kind: u8 = datagram.load(udp::LENGTH + echo::KIND);
    if !is_echo::<F>(&datagram, kind) {
        return Err(Outcome::NotOurs);
    }
    let id: u8 = datagram.load(udp::LENGTH + echo::ROUTER);
    let router = router::by_id(packet, parsed, id)?;
    if router::is_heard(router, &F::widen(&parsed.key.source)) {
        router::note_mac(router, sender(packet)?);
    }
    if kind != echo::PROBE {
        return Err(Outcome::NotOurs);
    }
    let router = router::read(router);
    let now = router::now();
    let age = now.saturating_sub(router.renewed);
    let words = [
        (
            echo::KIND,
            u32::from_ne_bytes([echo::ANSWER, id, F::NUMBER, router.answers(now) as u8]),
        ),
        (echo::AGE, ((age >> 32) as u32).to_be()),
        (echo::AGE + 4, (age as u32).to_be()),
    ];
    let mut delta = Delta::NONE;
    let mut i = 0;
    while i < words.len() {
        let (offset, new) = words[i];
        delta.word32(datagram.load(udp::LENGTH + offset), new);
        datagram.store(udp::LENGTH + offset, new);
        i += 1;
    }
    datagram.store(udp::CHECKSUM, delta.apply_udp(datagram.load(udp::CHECKSUM)));
    // Swapped addresses and ports do not change a checksum.
    let ports: u32 = datagram.load(udp::SOURCE_PORT);
    datagram.store(udp::SOURCE_PORT, ports.rotate_left(16));
    swap_addresses(packet, parsed)?;
    frame::turn_around(packet)?;
    Ok(Outcome::EchoAnswered)
}

/// Whether a datagram is a probe or an answer.
#[inline(always)]
fn is_echo<F: Family>(datagram: &Window<WHOLE>, kind: u8) -> bool {
    let port = match kind {
        echo::PROBE => udp::DESTINATION_PORT,
        _ => udp::SOURCE_PORT,
    };
    datagram.load::<u16>(port) == echo::PORT.to_be()
        && datagram.load::<u16>(udp::LENGTH_FIELD) == (WHOLE as u16).to_be()
        && datagram.load::<u32>(udp::LENGTH + echo::MAGIC_FIELD) == echo::MAGIC.to_be()
        && datagram.load::<u8>(udp::LENGTH + echo::FAMILY) == F::NUMBER
}

#[inline(always)]
fn swap_addresses<F: Family>(packet: &Packet, parsed: &Parsed<F>) -> Result<(), Outcome> {
    let (source, destination) = (F::widen(&parsed.key.source), F::widen(&parsed.key.destination));
    if F::NUMBER == V4::NUMBER {
        let header = packet.window::<{ ipv4::LENGTH }>(parsed.transport.l3)?;
        header.store(ipv4::SOURCE, destination[0]);
        header.store(ipv4::DESTINATION, source[0]);
        return Ok(());
    }
    let header = packet.window::<{ ipv6::LENGTH }>(parsed.transport.l3)?;
    let mut i = 0;
    while i < source.len() {
        header.store(ipv6::SOURCE + 4 * i, destination[i]);
        header.store(ipv6::DESTINATION + 4 * i, source[i]);
        i += 1;
    }
    Ok(())
}
