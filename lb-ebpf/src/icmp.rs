//! ICMP errors: those that quote a packet of a flow go where that packet came from, translated as it was.

use lb_common::{
    Family, FlowKey, Mode, NextHop, Outcome, Ports, V6,
    checksum::Delta,
    wire::{icmp, tcp, udp},
};

use crate::{
    client_hop, emit,
    family::Stages,
    maps::NEXT_HOPS,
    packet::{Packet, Window},
    parse::Parsed,
    rewrite::{nat, tunnel},
    track::{self, Found},
    verdict::settle,
};

/// An error while it is read and translated. It lives in a per-CPU map, because the stack is too small for it.
#[repr(C)]
pub struct Draft<F: Family> {
    /// The 5-tuple of the packet that it quotes.
    quoted: FlowKey<F>,
    /// What that becomes.
    rewritten: FlowKey<F>,
    /// What the error's own addresses become.
    source: F::Address,
    destination: F::Address,
    /// Offsets of the quoted packet's IP and transport headers in the frame.
    l3: u32,
    l4: u32,
}

/// Sends an ICMP error that belongs to a flow.
#[inline(never)]
pub fn steer<F: Stages>(packet: &Packet, ip: &Parsed<F>) -> Outcome {
    settle(|| {
        let header: Window<{ icmp::LENGTH }> = packet.window(ip.transport.offset)?;
        if ip.transport.length < icmp::LENGTH || !is_error::<F>(header.load(icmp::TYPE)) {
            return Err(Outcome::NotTcpUdp);
        }
        let draft = F::draft().ok_or(Outcome::Inconsistent)?;
        quoted(packet, ip, draft)?;
        // The quoted packet went to where the error comes from: its answers' 5-tuple finds the flow.
        draft.quoted.reverse_into(&mut draft.rewritten);
        let mut found = Found::blank().ok_or(Outcome::Inconsistent)?;
        if track::search(&draft.rewritten, &mut found) {
            return Ok(to_worker(packet, ip, draft, &found));
        }
        if track::search_answer(&draft.rewritten, &mut found) {
            return Ok(to_client(packet, ip, draft, &found));
        }
        Err(Outcome::NotOurs)
    })
}

#[inline(always)]
fn is_error<F: Stages>(kind: u8) -> bool {
    if F::NUMBER == V6::NUMBER {
        kind < icmp::INFORMATIONAL_V6
    } else {
        matches!(kind, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
    }
}

/// Reads the quoted packet as far as it is needed: RFC 792 promises only 8 bytes behind its IP header.
#[inline(always)]
fn quoted<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>) -> Result<(), Outcome> {
    let l3 = ip.transport.offset + icmp::LENGTH;
    let (source, destination, protocol, length) = F::quoted(packet, l3)?;
    if !matches!(protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        return Err(Outcome::NotOurs);
    }
    let l4 = l3 + length;
    let header: Window<8> = packet.window(l4)?;
    draft.quoted = FlowKey {
        source,
        destination,
        ports: Ports(header.load(0)),
        protocol,
        reserved: [0; 3],
    };
    draft.l3 = l3 as u32;
    draft.l4 = l4 as u32;
    Ok(())
}

/// An error about an answer: its worker must hear of it.
#[inline(never)]
fn to_worker<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>, found: &Found<F>) -> Outcome {
    settle(|| {
        let Found { flow, backend } = found;
        let hop = NEXT_HOPS.get(backend.next_hop).ok_or(Outcome::Inconsistent)?;
        let mode = track::mode(backend);
        if mode.translates() {
            let hit = &flow.hit;
            draft.rewritten.source = F::narrow(&backend.address);
            draft.rewritten.destination = track::answers_to::<F>(backend, hit.bind, &hit.address);
            draft.rewritten.ports = Ports::new(track::worker_port(backend, hit.ports), hit.bind.port());
            // RFC 5508, section 4.2: as the packets of the flow are translated, so are the errors.
            draft.source = if matches!(mode, Mode::Dnat) {
                ip.key.source
            } else {
                draft.rewritten.destination
            };
            draft.destination = draft.rewritten.source;
            translate(packet, ip, draft)?;
            return send(packet, ip, draft, hop);
        }
        if !hop.is_resolved() {
            return Err(Outcome::NoNextHop);
        }
        if mode.encapsulates() {
            let spread = tunnel::spread::<F>(&flow.hit.address, flow.hit.ports);
            tunnel::encapsulate(packet, ip, spread, backend, mode, hop)?;
            return Ok(emit::leave(packet, hop));
        }
        emit::to_hop::<F>(packet, ip.tags, hop)
    })
}

/// An error about a packet to a worker: the client must hear of it.
#[inline(never)]
fn to_client<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>, found: &Found<F>) -> Outcome {
    settle(|| {
        let Found { flow, backend } = found;
        let hit = &flow.hit;
        draft.rewritten.source = hit.address;
        draft.rewritten.destination = F::narrow(&backend.virtual_address);
        draft.rewritten.ports = hit.ports;
        draft.source = draft.rewritten.destination;
        draft.destination = hit.address;
        translate(packet, ip, draft)?;
        let hop = client_hop::get(hit.bind.hop()).unwrap_or(&NextHop::ZERO);
        send(packet, ip, draft, hop)
    })
}

/// Rewrites the error and the packet that it quotes, with all checksums.
#[inline(always)]
fn translate<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &Draft<F>) -> Result<(), Outcome> {
    if ip.transport.ttl <= 1 {
        return Err(Outcome::TtlExceeded);
    }
    let (old, new) = (&draft.quoted, &draft.rewritten);
    let mut outer = Delta::NONE;
    nat::change(&mut outer, &ip.key.source, &draft.source);
    nat::change(&mut outer, &ip.key.destination, &draft.destination);
    F::write_ip(packet, ip.transport.l3, &draft.source, &draft.destination, outer)?;

    // The quoted packet: what changes in it changes the checksum of the message around it.
    let mut inner = Delta::NONE;
    nat::change(&mut inner, &old.source, &new.source);
    nat::change(&mut inner, &old.destination, &new.destination);
    let mut message = inner;
    F::write_quoted(
        packet,
        draft.l3 as usize,
        &new.source,
        &new.destination,
        inner,
        &mut message,
    )?;
    inner.word32(old.ports.0, new.ports.0);
    message.word32(old.ports.0, new.ports.0);
    let l4 = draft.l4 as usize;
    let header: Window<8> = packet.window(l4)?;
    header.store(0, new.ports.0);
    if old.protocol == udp::PROTOCOL {
        let before = header.load(udp::CHECKSUM);
        let after = inner.apply_udp(before);
        header.store(udp::CHECKSUM, after);
        message.word16(before, after);
    } else if l4 + tcp::CHECKSUM + 2 <= ip.transport.offset + ip.transport.length {
        let header: Window<{ tcp::CHECKSUM + 2 }> = packet.window(l4)?;
        let before = header.load(tcp::CHECKSUM);
        let after = inner.apply(before);
        header.store(tcp::CHECKSUM, after);
        message.word16(before, after);
    }
    if F::NUMBER == V6::NUMBER {
        // RFC 4443, section 2.3: the pseudo-header counts in ICMPv6.
        nat::change(&mut message, &ip.key.source, &draft.source);
        nat::change(&mut message, &ip.key.destination, &draft.destination);
    }
    let header: Window<{ icmp::LENGTH }> = packet.window(ip.transport.offset)?;
    header.store(icmp::CHECKSUM, message.apply(header.load(icmp::CHECKSUM)));
    Ok(())
}

#[inline(always)]
fn send<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &Draft<F>, hop: &NextHop) -> Result<Outcome, Outcome> {
    if hop.is_resolved() {
        return emit::to_hop::<F>(packet, ip.tags, hop);
    }
    let what = emit::Unresolved::<F> {
        source: &draft.source,
        destination: &draft.destination,
        l3: ip.transport.l3,
        length: ip.transport.packet_length,
        protocol: F::ICMP,
        tags: ip.tags,
    };
    Ok(emit::unresolved(packet, &what))
}
