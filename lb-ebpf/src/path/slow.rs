//! The slow path: packets that open or end a flow, fragments, ICMP errors, packets without a
//! resolved next hop, and packets that are not for this balancer after all.

use lb_common::{
    Action, AddressClass, Outcome,
    flow::Direction,
    wire::{tcp, udp},
};

use super::{
    choose::{choose_backend, enter_flow, refuse_flow},
    send::{send_to_client, send_to_worker},
};
use crate::{
    bpf::number::Next,
    family::Ip,
    flow::{
        backend::{follows, may_move, mode},
        claim, client_hop,
        find::{search_flow, search_reply},
        pair,
        scratch::{Scratch, scratch},
        touch,
    },
    packet::{
        Packet, frame,
        parsed::{self, Parsed},
    },
    stages::{
        extensions::read_extensions,
        icmp_error::send_error,
        lookup::{may_be_reply, read, read_source},
        reschedule::{is_retransmitted, reschedule},
    },
    vrrp::{self, router_mac},
};

/// The outcome of a packet of this family.
#[inline(always)]
pub fn run<F: Ip>(packet: &Packet) -> Outcome {
    match classify::<F>(packet) {
        Ok(Direction::ToClient) => send_to_client::<F>(packet),
        Ok(Direction::ToWorker) => send_to_worker::<F>(packet),
        Err(outcome) if matches!(Outcome::action_of(outcome as u32), Action::Pass) => pass::<F>(packet, outcome),
        Err(outcome) => outcome,
    }
}

/// The outcome of a packet for the kernel, if its destination accepts such packets.
#[inline(always)]
fn pass<F: Ip>(packet: &Packet, outcome: Outcome) -> Outcome {
    match vrrp::refuse_unaccepted::<F>(packet) {
        Ok(Next::Continue) => outcome,
        Ok(Next::Done(refused)) | Err(refused) => refused,
    }
}

/// Decides what a packet is. Returns its direction, with client or worker in the scratch memory; or
/// its outcome.
#[inline(always)]
fn classify<F: Ip>(packet: &Packet) -> Result<Direction, Outcome> {
    let scratch = scratch::<F>().ok_or(Outcome::Inconsistent)?;
    parse(packet, scratch)?;
    let parsed = &scratch.parsed;
    if parsed.key.protocol == F::ICMP {
        send_error::<F>(packet)?.or_done()?;
        return Ok(Direction::ToWorker);
    }
    if may_be_reply(parsed) && search_reply(&parsed.key, &mut scratch.flow) {
        let flow = &scratch.flow;
        touch::note_time_of(flow);
        if touch::reply_may_change_phase(flow.hit.meta, parsed) {
            pair::flow_answered(flow, parsed.flags);
        }
        return Ok(Direction::ToClient);
    }
    if !parsed.class.has(AddressClass::VIRTUAL) {
        return Err(Outcome::NotOurs);
    }
    match follow(packet, scratch)? {
        Existing::Followed => {}
        existing => open(packet, scratch, &existing)?,
    }
    Ok(Direction::ToWorker)
}

/// Parses a packet into the scratch memory. An ICMP packet without a class ends here.
#[inline(always)]
fn parse<F: Ip>(packet: &Packet, scratch: &mut Scratch<F>) -> Result<(), Outcome> {
    scratch.parsed = Parsed::BLANK;
    let link = frame::link(packet)?;
    router_mac::check(packet, link.tags)?;
    read(packet, &link, &mut scratch.parsed)?;
    let parsed = &mut scratch.parsed;
    if parsed.class.0 == 0 {
        return Err(match send_error::<F>(packet) {
            Ok(Next::Continue | Next::Done(Outcome::NotTcpUdp | Outcome::Malformed)) => Outcome::NotOurs,
            Ok(Next::Done(outcome)) | Err(outcome) => outcome,
        });
    }
    read_source(parsed);
    if parsed.transport.fragment == 0 && matches!(parsed.key.protocol, tcp::PROTOCOL | udp::PROTOCOL) {
        parsed::transport(packet, parsed)
    } else {
        read_extensions::<F>(packet)?.or_done()
    }
}

/// The flow that a client's packet found.
enum Existing {
    /// It takes the packet.
    Followed,
    /// There is none.
    None,
    /// It has ended, or its backend is down or removed.
    Ended,
    /// It has ended, and another backend is chosen for the packet.
    Rescheduled,
}

/// Finds the flow of a client's packet, and follows or ends it.
#[inline(always)]
fn follow<F: Ip>(packet: &Packet, scratch: &mut Scratch<F>) -> Result<Existing, Outcome> {
    let parsed = &scratch.parsed;
    let chosen = &mut scratch.chosen;
    chosen.is_handshake = !parsed.is_udp() as u32;
    chosen.is_moved = 0;
    if !search_flow(&parsed.key, &mut scratch.flow) {
        return Ok(if scratch.flow.was_left != 0 {
            Existing::Ended
        } else {
            Existing::None
        });
    }
    let flow = &scratch.flow;
    let backend = flow.backend().ok_or(Outcome::Inconsistent)?;
    let mut existing = Existing::Ended;
    if !follows(parsed, flow.hit.meta, backend) {
        let begins = parsed.is_syn() || parsed.is_udp() || parsed.flags & tcp::RST != 0;
        chosen.is_moved = (!begins && may_move(flow.hit.meta, backend)) as u32;
    } else if is_retransmitted(flow.hit.meta, backend, parsed) && reschedule::<F>() {
        existing = Existing::Rescheduled;
    } else {
        chosen.is_handshake &= flow.hit.meta.phase().is_embryonic() as u32;
        chosen.backend = flow.hit.meta.backend();
        chosen.binding = flow.hit.binding;
        touch::touch(flow, backend, parsed);
        if mode(backend).translates() {
            let origin = router_mac::origin(packet, parsed.tags)?;
            if !client_hop::leads_to(flow.hit.binding.hop(), &origin) && !vrrp::is_relayed(packet, parsed) {
                pair::flow_hop_changed(flow, client_hop::intern(&origin));
            }
        }
        return Ok(Existing::Followed);
    }
    pair::flow_released(&scratch.flow);
    Ok(existing)
}

/// Opens a flow for a client's packet, where it needs one, or refuses the packet.
#[inline(always)]
fn open<F: Ip>(packet: &Packet, scratch: &mut Scratch<F>, existing: &Existing) -> Result<(), Outcome> {
    let parsed = &scratch.parsed;
    if !matches!(existing, Existing::None) && !parsed.is_syn() && !parsed.is_udp() {
        if scratch.chosen.is_moved == 0 {
            return Err(refuse_flow::<F>(packet));
        }
        scratch.chosen.is_handshake = 0;
    }
    if !matches!(existing, Existing::Rescheduled) {
        choose_backend::<F>(packet)?.or_done()?;
    }
    if scratch.chosen.is_tracked != 0 {
        let result = enter_flow::<F>(packet);
        claim::end_evicted(scratch);
        result?.or_done()?;
        if claim::end_half(scratch) {
            return Err(Outcome::ClaimRaced);
        }
    }
    Ok(())
}
