//! Accept_Mode: drops packets to virtual addresses that take only packets of services.

use lb_common::{Family, Outcome, V6, wire::icmp};

use super::router;
use crate::{
    bpf::number::Next,
    family::{Ip, subprogram::subprogram},
    flow::scratch::scratch,
    packet::Packet,
};

subprogram! {
    /// Drops the packet in the scratch memory, which belongs to no service, if its destination
    /// accepts no such packets.
    ///
    /// RFC 9568, section 6.1: "Accept_Mode [...] Controls whether a VRRP Router in Active state
    /// will accept packets addressed to the address owner's IPvX address as its own if it is not
    /// the IPvX address owner"; IPv6 Neighbor Solicitations and Neighbor Advertisements are not
    /// dropped even then.
    pub fn refuse_unaccepted<F>(packet: Packet) -> Result<Next, Outcome> = refuse;
}

#[inline(always)]
fn refuse<F: Ip>(packet: &Packet) -> Result<Next, Outcome> {
    let parsed = &scratch::<F>().ok_or(Outcome::Inconsistent)?.parsed;
    let Ok((router, true)) = router::of_destination(packet, parsed) else {
        return Ok(Next::Continue);
    };
    if F::NUMBER == V6::NUMBER && parsed.key.protocol == F::ICMP && parsed.transport.fragment == 0 {
        let message = packet.window::<{ icmp::LENGTH }>(parsed.transport.offset)?;
        let kind: u8 = message.load(icmp::TYPE);
        if matches!(kind, icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT) {
            return Ok(Next::Continue);
        }
    }
    if router::read(router).answers(router::now()) {
        return Err(Outcome::NotAccepted);
    }
    Ok(Next::Continue)
}
