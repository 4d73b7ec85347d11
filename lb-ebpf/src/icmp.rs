//! ICMP errors: those that quote a packet of a flow go where that packet came from, translated as it was.

use lb_common::{
    Family, FlowKey, Mode, Outcome, Ports, V6,
    checksum::Delta,
    wire::{icmp, tcp, udp},
};

use crate::{
    cells::opaque,
    client_hop, emit,
    family::Stages,
    lookup,
    maps::NEXT_HOPS,
    packet::{MOST_OFFSET, Packet, Window},
    parse::Parsed,
    rewrite::nat,
    select,
    slow::step,
    track::{self, Flow},
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

/// Sends the ICMP error in the room, if it belongs to a flow. Where it goes on, it goes as it is to the backend that the room then
/// tells.
#[inline(always)]
pub fn steer<F: Stages>(packet: &Packet) -> u32 {
    step(|| {
        let room = F::room().ok_or(Outcome::Inconsistent)?;
        let ip = &room.parsed;
        let header: Window<{ icmp::LENGTH }> = packet.window(ip.transport.offset)?;
        if ip.transport.length < icmp::LENGTH || !is_error::<F>(header.load(icmp::TYPE)) {
            return Err(Outcome::NotTcpUdp);
        }
        let draft = F::draft().ok_or(Outcome::Inconsistent)?;
        quoted(packet, ip, draft)?;
        if ip.class.0 == 0 && draft.quoted.source != ip.key.destination {
            return Err(Outcome::NotOurs);
        }
        // The quoted packet went to where the error comes from: its answers' 5-tuple finds the flow.
        draft.quoted.reverse_into(&mut draft.rewritten);
        let flow = &mut room.flow;
        let (translated, hop) = if F::search_flow(&draft.rewritten, flow) != 0 {
            let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
            if !track::mode(backend).translates() {
                // What does not translate carries the error as any other packet.
                room.chosen.backend = flow.hit.meta.backend();
                return Ok(None);
            }
            (to_worker(packet, ip, draft, flow), NEXT_HOPS.get(backend.next_hop))
        } else if F::search_answer(&draft.rewritten, flow) != 0 {
            (to_client(packet, ip, draft, flow), client_hop::get(flow.hit.bind.hop()))
        } else {
            // A flow without an entry goes by hash, and so does what is said of it.
            let (_, service) = lookup::service(&draft.rewritten, ip.class)?;
            if Mode::from_number(service.mode).is_none_or(Mode::translates) {
                return Err(Outcome::NotOurs);
            }
            let chosen = select::by_hash(&draft.rewritten, service, select::ring(service));
            room.chosen.backend = chosen.ok_or(Outcome::NotOurs)?;
            return Ok(None);
        };
        if translated as u32 != Outcome::Forwarded as u32 {
            return Err(translated);
        }
        match hop {
            Some(hop) if hop.is_resolved() => Ok(Some(emit::to_hop::<F>(packet, ip.tags, hop)?)),
            _ => Ok(Some(emit::unresolved::<F>(
                packet,
                ip.transport.l3,
                ip.transport.packet_length,
                ip.tags,
            ))),
        }
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
    // What stands behind the message is padding of the frame.
    if l4 > MOST_OFFSET || l4 + 8 > ip.transport.offset + ip.transport.length {
        return Err(Outcome::Malformed);
    }
    // The verifier of Linux 6.1 forgets the bound, so that the window has to take its own.
    let l4 = opaque(l4 as u64) as usize;
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

/// An error about an answer: its worker must hear of it. Returns [`Outcome::Forwarded`] when it is translated.
#[inline(never)]
fn to_worker<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>, flow: &Flow<F>) -> Outcome {
    settle(|| {
        let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
        let hit = &flow.hit;
        draft.rewritten.source = *F::view(&backend.address);
        draft.rewritten.destination = *track::answers_to::<F>(backend, hit.bind, &hit.address);
        draft.rewritten.ports = Ports::new(track::worker_port(backend, hit.ports), hit.bind.port());
        // RFC 5508, section 4.2: as the packets of the flow are translated, so are the errors.
        draft.source = if matches!(track::mode(backend), Mode::Dnat) {
            ip.key.source
        } else {
            draft.rewritten.destination
        };
        draft.destination = draft.rewritten.source;
        translate(packet, ip, draft)?;
        Ok(Outcome::Forwarded)
    })
}

/// An error about a packet to a worker: the client must hear of it. Returns [`Outcome::Forwarded`] when it is translated.
#[inline(never)]
fn to_client<F: Stages>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>, flow: &Flow<F>) -> Outcome {
    settle(|| {
        let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
        let hit = &flow.hit;
        draft.rewritten.source = hit.address;
        draft.rewritten.destination = *F::view(&backend.virtual_address);
        draft.rewritten.ports = hit.ports;
        draft.source = draft.rewritten.destination;
        draft.destination = hit.address;
        translate(packet, ip, draft)?;
        Ok(Outcome::Forwarded)
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
