//! ICMP errors that quote a packet of a flow: forwarded to the sender of that packet, and
//! translated like it.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use lb_common::{
    Family, FlowKey, Mode, Outcome, Ports, V4, V6,
    checksum::Delta,
    wire::{icmp, tcp, udp},
};

use super::{emit, lookup, rewrite::nat, select};
use crate::{
    bpf::{
        maps::NEXT_HOPS,
        number::{Next, outcome},
        opaque,
    },
    family::{Headers, Ip, subprogram::subprogram},
    flow::{
        Flow,
        backend::mode,
        client_hop,
        find::{search_flow, search_reply},
        replies,
        scratch::scratch,
    },
    packet::{
        MOST_OFFSET, Packet, Window,
        parsed::{Parsed, Transport},
    },
};

/// An ICMP error that is being translated. It is in memory of each CPU, because the stack is too
/// small for it.
#[repr(C)]
pub struct Draft<F: Family> {
    /// The 5-tuple of the packet that it quotes.
    quoted: FlowKey<F>,
    /// The same after translation.
    rewritten: FlowKey<F>,
    /// Source address of the error after translation.
    source: F::Address,
    /// Destination address of the error after translation.
    destination: F::Address,
    /// Offsets of the quoted packet's IP and transport headers in the frame.
    l3: u32,
    l4: u32,
}

#[btf_map]
static DRAFT_V4: PerCpuArray<Draft<V4>, 1> = PerCpuArray::new();
#[btf_map]
static DRAFT_V6: PerCpuArray<Draft<V6>, 1> = PerCpuArray::new();

/// The draft of this CPU.
#[inline(always)]
fn draft<F: Family>() -> Option<&'static mut Draft<F>> {
    let draft: *mut Draft<F> = if F::NUMBER == V4::NUMBER {
        DRAFT_V4.get_ptr_mut(0)?.cast()
    } else {
        DRAFT_V6.get_ptr_mut(0)?.cast()
    };
    // SAFETY: the entry is this CPU's own, XDP programs of one CPU do not interrupt each other, and
    // the type is that of the family's map.
    Some(unsafe { &mut *draft })
}

subprogram! {
    /// Sends the ICMP error in the scratch memory, if it belongs to a flow. If it continues, it
    /// goes unchanged to the chosen backend.
    pub fn send_error<F>(packet: Packet) -> Result<Next, Outcome> = send;
}

#[inline(always)]
fn send<F: Ip>(packet: &Packet) -> Result<Next, Outcome> {
    let scratch = scratch::<F>().ok_or(Outcome::Inconsistent)?;
    let ip = &scratch.parsed;
    let header: Window<{ icmp::LENGTH }> = packet.window(ip.transport.offset)?;
    if ip.transport.length < icmp::LENGTH || !is_error::<F>(header.load(icmp::TYPE)) {
        return Err(Outcome::NotTcpUdp);
    }
    let draft = draft::<F>().ok_or(Outcome::Inconsistent)?;
    quoted(packet, ip, draft)?;
    if ip.class.0 == 0 && draft.quoted.source != ip.key.destination {
        return Err(Outcome::NotOurs);
    }
    // The quoted packet went to the sender of the error. The reversed 5-tuple finds the flow.
    draft.quoted.reverse_into(&mut draft.rewritten);
    let flow = &mut scratch.flow;
    let (translated, hop) = if search_flow(&draft.rewritten, flow) {
        let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
        if !mode(backend).translates() {
            // Modes that do not translate forward the error like any other packet.
            scratch.chosen.backend = flow.hit.meta.backend();
            return Ok(Next::Continue);
        }
        (to_worker(packet, ip, draft, flow), NEXT_HOPS.get(backend.next_hop))
    } else if search_reply(&draft.rewritten, flow) {
        (
            to_client(packet, ip, draft, flow),
            client_hop::get(flow.hit.binding.hop()),
        )
    } else {
        // A flow without an entry is forwarded by hash, and so are errors about it.
        let (_, service) = lookup::service(&draft.rewritten, ip.class)?;
        if Mode::from_number(service.mode).is_none_or(Mode::translates) {
            return Err(Outcome::NotOurs);
        }
        let chosen = select::by_hash(&draft.rewritten, service, select::ring(service));
        scratch.chosen.backend = chosen.ok_or(Outcome::NotOurs)?;
        return Ok(Next::Continue);
    };
    if translated as u32 != Outcome::Forwarded as u32 {
        return Err(translated);
    }
    let Transport { l3, packet_length, .. } = ip.transport;
    Ok(Next::Done(match hop {
        Some(hop) if hop.is_resolved() => emit::to_hop::<F>(packet, ip.tags, hop)?,
        _ => emit::unresolved::<F>(packet, l3, packet_length, ip.tags),
    }))
}

#[inline(always)]
fn is_error<F: Family>(kind: u8) -> bool {
    if F::NUMBER == V6::NUMBER {
        kind < icmp::INFORMATIONAL_V6
    } else {
        matches!(kind, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
    }
}

/// Reads 5-tuple and offsets of the quoted packet. RFC 792 promises only 8 bytes after its IP
/// header.
#[inline(always)]
fn quoted<F: Headers>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>) -> Result<(), Outcome> {
    let l3 = ip.transport.offset + icmp::LENGTH;
    let (source, destination, protocol, length) = F::quoted(packet, l3)?;
    if !matches!(protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        return Err(Outcome::NotOurs);
    }
    let l4 = l3 + length;
    // Bytes after the message are padding of the frame.
    if l4 > MOST_OFFSET || l4 + 8 > ip.transport.offset + ip.transport.length {
        return Err(Outcome::Malformed);
    }
    // The verifier of Linux 6.1 forgets the bound: the window must set its own.
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

/// Translates an error about a reply, for its worker. Returns [`Outcome::Forwarded`] if it did.
#[inline(never)]
fn to_worker<F: Ip>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>, flow: &Flow<F>) -> Outcome {
    let Some(backend) = flow.backend() else {
        return Outcome::Inconsistent;
    };
    let hit = &flow.hit;
    draft.rewritten.source = *F::view(&backend.address);
    draft.rewritten.destination = *replies::destination::<F>(backend, hit.binding, &hit.address);
    draft.rewritten.ports = Ports::new(replies::worker_port(backend, hit.ports), hit.binding.port());
    // RFC 5508, section 4.2: as the packets of the flow are translated, so are the errors.
    draft.source = if matches!(mode(backend), Mode::Dnat) {
        ip.key.source
    } else {
        draft.rewritten.destination
    };
    draft.destination = draft.rewritten.source;
    outcome(translate(packet, ip, draft))
}

/// Translates an error about a packet to a worker, for its client. Returns [`Outcome::Forwarded`]
/// if it did.
#[inline(never)]
fn to_client<F: Ip>(packet: &Packet, ip: &Parsed<F>, draft: &mut Draft<F>, flow: &Flow<F>) -> Outcome {
    let Some(backend) = flow.backend() else {
        return Outcome::Inconsistent;
    };
    let hit = &flow.hit;
    draft.rewritten.source = hit.address;
    draft.rewritten.destination = *F::view(&backend.virtual_address);
    draft.rewritten.ports = hit.ports;
    draft.source = draft.rewritten.destination;
    draft.destination = hit.address;
    outcome(translate(packet, ip, draft))
}

/// Writes the error and the packet that it quotes, with all checksums.
#[inline(always)]
fn translate<F: Headers>(packet: &Packet, ip: &Parsed<F>, draft: &Draft<F>) -> Result<Outcome, Outcome> {
    if ip.transport.ttl <= 1 {
        return Err(Outcome::TtlExceeded);
    }
    let mut outer = Delta::NONE;
    nat::change(&mut outer, &ip.key.source, &draft.source);
    nat::change(&mut outer, &ip.key.destination, &draft.destination);
    F::write_ip(packet, ip.transport.l3, &draft.source, &draft.destination, outer)?;

    let mut message = translate_quoted(packet, ip, draft)?;
    if F::NUMBER == V6::NUMBER {
        // RFC 4443, section 2.3: ICMPv6 checksums include a pseudo-header.
        nat::change(&mut message, &ip.key.source, &draft.source);
        nat::change(&mut message, &ip.key.destination, &draft.destination);
    }
    let header: Window<{ icmp::LENGTH }> = packet.window(ip.transport.offset)?;
    header.store(icmp::CHECKSUM, message.apply(header.load(icmp::CHECKSUM)));
    Ok(Outcome::Forwarded)
}

/// Writes the quoted packet. Returns its change of the checksum of the message around it.
#[inline(always)]
fn translate_quoted<F: Headers>(packet: &Packet, ip: &Parsed<F>, draft: &Draft<F>) -> Result<Delta, Outcome> {
    let (old, new) = (&draft.quoted, &draft.rewritten);
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
    Ok(message)
}
