//! ICMP errors that quote a packet of a flow.

use std::net::SocketAddr;

use lb_common::{Mode, Outcome, Phase};

use super::{
    Expectation, Flow, Hop, Key, Model, Seen,
    emit::{Quote, requoted, to_hop},
    frame::{Ip, TCP, Transport, UDP, address, word16},
    sent,
};

impl Model {
    /// What becomes of a message of ICMP or ICMPv6 to an address that is not ours: a client's, of
    /// `dnat`.
    pub(super) fn error_to_client(&mut self, frame: &[u8], ip: &Ip, seen: &Seen) -> Expectation {
        let is_to_sender = quote(frame, ip).is_ok_and(|quote| quote.source.ip() == ip.destination);
        match self.error(frame, ip, seen) {
            Err(Outcome::NotTcpUdp | Outcome::Malformed) => Err(Outcome::NotOurs),
            _ if !is_to_sender => Err(Outcome::NotOurs),
            result => result,
        }
    }

    /// What becomes of a message of ICMP or ICMPv6.
    pub(super) fn error(&mut self, frame: &[u8], ip: &Ip, seen: &Seen) -> Expectation {
        let message = &frame[ip.l4..ip.end];
        if frame.len() < ip.l4 + 8 {
            return Err(Outcome::Malformed);
        }
        if message.len() < 8 || !is_error(message[0], ip.v6) {
            return Err(Outcome::NotTcpUdp);
        }
        let quote = quote(frame, ip)?;
        // An error about an answer: its worker must hear of it.
        let key = Key {
            client: quote.destination,
            service: quote.source,
            protocol: quote.protocol,
        };
        if let Some(flow) = self.flows.get(&key).cloned() {
            let Some(backend) = self.backend(&flow).cloned() else {
                return self.error_without_flow(frame, ip, &quote, seen);
            };
            let mode = self.services[flow.service].mode;
            if !mode.translates() {
                return self.carry(frame, ip, &Transport::NONE, &flow, seen);
            }
            if ip.ttl <= 1 {
                return Err(Outcome::TtlExceeded);
            }
            let source = if mode == Mode::Dnat { ip.source } else { flow.bound.ip() };
            let ends = [source, backend.address.ip()];
            let out = requoted(frame, ip, &quote, ends, [backend.address, flow.bound]);
            return sent(to_hop(&out, ip, &backend.hop));
        }
        // An error about a packet to a worker: the client must hear of it.
        let Some(key) = self.flow_of_answer(quote.destination, quote.source, quote.protocol) else {
            return self.error_without_flow(frame, ip, &quote, seen);
        };
        let flow = self.flows[&key].clone();
        if ip.ttl <= 1 {
            return Err(Outcome::TtlExceeded);
        }
        let ends = [key.service.ip(), key.client.ip()];
        let out = requoted(frame, ip, &quote, ends, [key.client, key.service]);
        sent(to_hop(&out, ip, &flow.hop))
    }
}

impl Model {
    /// What becomes of an error about an answer of a flow that is not known: where packets pass as
    /// they are, any backend may be the one.
    fn error_without_flow(&mut self, frame: &[u8], ip: &Ip, quote: &Quote, seen: &Seen) -> Expectation {
        let at = (quote.source, quote.protocol);
        let service = self.services.iter().position(|service| service.at == at);
        let service = service.filter(|index| !self.services[*index].mode.translates());
        let Some(service) = service else {
            return Err(Outcome::NotOurs);
        };
        let backends: Vec<u32> = self.services[service].up().map(|backend| backend.id).collect();
        if backends.is_empty() {
            return Err(Outcome::NotOurs);
        }
        let to = |backend| Flow {
            service,
            backend,
            bound: quote.destination,
            phase: Phase::Opening,
            hop: Hop::back(frame, ip),
        };
        Ok(self.carry_to_any(frame, ip, &Transport::NONE, seen, backends.into_iter().map(to)))
    }
}

fn is_error(kind: u8, v6: bool) -> bool {
    if v6 {
        // RFC 4443, section 2.1: "error messages have message types from 0 to 127".
        kind < 128
    } else {
        // Destination unreachable, time exceeded, parameter problem.
        matches!(kind, 3 | 11 | 12)
    }
}

fn quote(frame: &[u8], ip: &Ip) -> Result<Quote, Outcome> {
    let l3 = ip.l4 + 8;
    // Bytes behind the message do not belong to it.
    let message = &frame[..ip.end];
    let fixed = if ip.v6 { 40 } else { 20 };
    let header = message.get(l3..l3 + fixed).ok_or(Outcome::Malformed)?;
    let (length, protocol) = if ip.v6 {
        if header[0] >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        (40, header[6])
    } else {
        let length = usize::from(header[0] & 15) * 4;
        let word = word16(header, 6).ok_or(Outcome::Malformed)?;
        if header[0] >> 4 != 4 || length < 20 || word & 0x1fff != 0 {
            return Err(Outcome::Malformed);
        }
        (length, header[9])
    };
    if !matches!(protocol, TCP | UDP) {
        return Err(Outcome::NotOurs);
    }
    let l4 = l3 + length;
    if message.len() < l4 + 8 {
        return Err(Outcome::Malformed);
    }
    let at = if ip.v6 { l3 + 8 } else { l3 + 12 };
    let size = if ip.v6 { 16 } else { 4 };
    let end = |at, port| {
        let address = address(message, at, ip.v6).ok_or(Outcome::Malformed)?;
        Ok(SocketAddr::new(
            address,
            word16(message, port).ok_or(Outcome::Malformed)?,
        ))
    };
    Ok(Quote {
        l3,
        l4,
        protocol,
        source: end(at, l4)?,
        destination: end(at + size, l4 + 2)?,
    })
}
