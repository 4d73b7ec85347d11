//! What the program promises, as a plain model: maps of the standard library, full checksums, one
//! case after the other.
//!
//! It shares no code with the program but the enums that name things. Where the program is free -
//! which backend a new flow goes to, which port `nat` takes when the client's own is in use, what a
//! tunnel spreads by - the model takes any allowed choice, and holds the program to it from then
//! on.

mod again;
pub mod emit;
pub mod frame;
mod icmp;
mod phase;
mod state;
pub mod sums;

use std::net::{IpAddr, SocketAddr};

use lb_common::{Action, BackendState, Mode, OnBackendDown, Outcome, Phase};

pub use self::again::BY_NOW;
pub use self::state::{Backend, Flow, Hop, Key, Model, Service};
use self::{
    emit::Spread,
    frame::{ICMP, Ip, TCP, Transport, UDP},
};
use crate::packet::{ACK, FIN, RST, SYN};

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The outcomes that were counted.
    pub outcomes: Vec<&'static str>,
    /// The action that it returned.
    pub action: Action,
    /// The frame after it.
    pub bytes: Vec<u8>,
}

/// What the program's flow table says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Address of the worker, or of the far end of the tunnel.
    pub worker: IpAddr,
    /// Where the worker answers to, in a mode that translates.
    pub bound: SocketAddr,
    /// How far its connection has come.
    pub phase: Phase,
}

/// Something that may become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The outcome.
    pub outcome: Outcome,
    /// The frame that comes out; any where none leaves.
    pub bytes: Option<Vec<u8>>,
}

/// The allowed results of a frame.
type Expectation = Result<Vec<Expected>, Outcome>;

fn sent(bytes: Vec<u8>) -> Expectation {
    Ok(vec![Expected {
        outcome: Outcome::Forwarded,
        bytes: Some(bytes),
    }])
}

fn answered(outcome: Outcome, bytes: Vec<u8>) -> Expectation {
    Ok(vec![Expected {
        outcome,
        bytes: Some(bytes),
    }])
}

impl Model {
    /// Follows what the program did with a frame. `table` looks a flow up in the program's table.
    ///
    /// # Errors
    ///
    /// What it should have done.
    pub fn follow(&mut self, frame: &[u8], seen: &Seen, table: &dyn Fn(Key) -> Option<Entry>) -> Result<(), String> {
        self.touched = None;
        self.problem = None;
        let expected = self
            .classify(frame, seen, table)
            .unwrap_or_else(|outcome| vec![Expected::without_frame(frame, outcome)]);
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let fits = |expected: &Expected| {
            let names = [expected.outcome.name()];
            let is_outcome = seen.outcomes == names
                || self.may_be_taken_for_ours(frame, expected.outcome)
                    && seen.action == Action::Pass
                    && seen.outcomes.len() == 1;
            let is_sent = expected.bytes.as_ref().is_none_or(|bytes| *bytes == seen.bytes);
            is_outcome && seen.action == expected.outcome.action() && is_sent
        };
        if expected.is_empty() {
            return Err("an outer header with addresses and ports of the tunnel".into());
        }
        if !expected.iter().any(fits) {
            let lines: Vec<String> = expected.iter().map(Expected::line).collect();
            return Err(lines.join("\nor "));
        }
        let Some(key) = self.touched else { return Ok(()) };
        let held = table(key).map(|entry| entry.phase);
        match self.flows.get(&key) {
            Some(flow) if held != Some(flow.phase) => {
                Err(format!("a flow {key:?} in phase {:?}, not {held:?}", flow.phase))
            }
            _ => Ok(()),
        }
    }

    fn classify(&mut self, frame: &[u8], seen: &Seen, table: &dyn Fn(Key) -> Option<Entry>) -> Expectation {
        let mut ip = Ip::read(frame)?;
        if !self.is_ours(&ip) {
            let is_icmp = ip.protocol == ICMP[usize::from(ip.v6)] && ip.fragment.is_none();
            return if is_icmp {
                self.error_to_client(frame, &ip, seen)
            } else {
                Err(Outcome::NotOurs)
            };
        }
        ip.skip_extensions(frame)?;
        let id = (ip.source, ip.destination, ip.fragment.unwrap_or(0), ip.protocol);
        let transport = if !ip.is_first {
            if !matches!(ip.protocol, TCP | UDP) {
                return Err(Outcome::NotTcpUdp);
            }
            ip.later(*self.fragments.get(&id).ok_or(Outcome::FragmentUnknown)?)
        } else if ip.protocol == ICMP[usize::from(ip.v6)] && ip.fragment.is_none() {
            return self.error(frame, &ip, seen);
        } else {
            ip.transport(frame)?
        };
        if ip.fragment.is_some() && ip.is_first {
            self.fragments.insert(id, (transport.source, transport.destination));
        }
        let from = SocketAddr::new(ip.source, transport.source);
        let to = SocketAddr::new(ip.destination, transport.destination);
        let key = Key {
            client: from,
            service: to,
            protocol: ip.protocol,
        };
        if let Some(flow) = self.flow_of_answer(from, to, ip.protocol) {
            return self.answer(frame, &ip, &transport, flow);
        }
        if !self.is_virtual(ip.destination) {
            return Err(Outcome::NotOurs);
        }
        self.request(frame, &ip, &transport, key, seen, table)
    }

    /// A worker's answer.
    fn answer(&mut self, frame: &[u8], ip: &Ip, transport: &Transport, key: Key) -> Expectation {
        let Some(flow) = self.flows.get_mut(&key) else {
            return Err(Outcome::NotOurs);
        };
        let before = flow.phase;
        flow.phase = if ip.protocol == UDP {
            phase::worker_datagram(flow.phase)
        } else {
            phase::worker(flow.phase, transport.flags)
        };
        if (before, flow.phase) == (Phase::Opening, Phase::Answered) {
            self.times.answered(flow.backend);
        }
        self.touched = Some(key);
        if ip.ttl <= 1 {
            return Err(Outcome::TtlExceeded);
        }
        let out = emit::translated(frame, ip, key.service, key.client);
        sent(emit::to_hop(&out, ip, &flow.hop))
    }

    /// A packet to a virtual address.
    fn request(
        &mut self,
        frame: &[u8],
        ip: &Ip,
        transport: &Transport,
        key: Key,
        seen: &Seen,
        table: &dyn Fn(Key) -> Option<Entry>,
    ) -> Expectation {
        let udp = ip.protocol == UDP;
        let is_syn = !udp && transport.flags & (SYN | ACK | RST | FIN) == SYN;
        let mut moves = false;
        if let Some(flow) = self.flows.get(&key).cloned() {
            let service = &self.services[flow.service];
            let backend = service.backends.iter().find(|backend| backend.id == flow.backend);
            let holds = backend.is_some_and(|backend| {
                backend.state != BackendState::Down || service.on_backend_down == OnBackendDown::Hold
            });
            let may_move = backend.is_some() && service.on_backend_down == OnBackendDown::Reschedule;
            let elsewhere = match table(key) {
                Some(entry) if holds && is_syn && service.mode.translates() && flow.phase == Phase::Opening => {
                    self.went_elsewhere(&key, &flow, &entry)
                }
                _ => Ok(false),
            };
            let elsewhere = elsewhere.unwrap_or_else(|problem| {
                self.problem = Some(problem);
                false
            });
            self.times.packet(key);
            if holds && !elsewhere && !(is_syn && phase::is_over(flow.phase)) {
                let flow = self.flows.get_mut(&key).expect("it was just there");
                flow.phase = if service.mode.translates() {
                    phase::client(flow.phase, transport.flags)
                } else {
                    phase::client_alone(flow.phase, transport.flags, udp)
                };
                flow.hop = Hop::back(frame, ip);
                let flow = flow.clone();
                self.touched = Some(key);
                return self.carry(frame, ip, transport, &flow, seen);
            }
            let is_gone = backend.is_none();
            self.forget(&key);
            moves = may_move && !is_syn && !udp && transport.flags & RST == 0;
            if !is_syn && !udp && !moves {
                let refused = self.refused(frame, ip, transport, Outcome::ResetBackendDown);
                let outcome = match &refused {
                    Ok(_) => Outcome::ResetBackendDown,
                    Err(outcome) => *outcome,
                };
                // What a backend that left has left behind may be found or not: its entry may be
                // another one's by now.
                if !is_gone || seen.outcomes == [outcome.name()] {
                    return refused;
                }
            }
        }
        let Some(service) = self
            .services
            .iter()
            .position(|service| service.at == (key.service, key.protocol))
        else {
            return Err(Outcome::NotOurs);
        };
        let translates = self.services[service].mode.translates();
        if translates && !udp && !is_syn && !moves {
            return self.refused(frame, ip, transport, Outcome::ResetNoFlow);
        }
        let up: Vec<Backend> = self.services[service].up().cloned().collect();
        if up.is_empty() {
            if udp {
                return Err(Outcome::NoBackend);
            }
            return self.refused(frame, ip, transport, Outcome::ResetNoBackend);
        }
        let mut flow = Flow {
            service,
            backend: up[0].id,
            bound: key.client,
            phase: phase::first(translates && !moves, transport.flags, udp),
            hop: Hop::back(frame, ip),
        };
        if !translates && !udp && transport.flags & RST != 0 {
            // It ends what is not known here: any backend may be the one, and no flow begins.
            let to = |backend: &Backend| Flow {
                backend: backend.id,
                ..flow.clone()
            };
            return Ok(self.carry_to_any(frame, ip, transport, seen, up.iter().map(to)));
        }
        let Some(entry) = table(key) else {
            self.problem = Some(format!("a new flow {key:?}, of which the table says nothing"));
            return Ok(Vec::new());
        };
        let Some(backend) = up.iter().find(|backend| backend.address.ip() == entry.worker) else {
            self.problem = Some(format!(
                "a new flow {key:?} to a backend that is up, not to {}",
                entry.worker
            ));
            return Ok(Vec::new());
        };
        flow.backend = backend.id;
        let worker = backend.address;
        if translates {
            flow.bound = entry.bound;
            if let Err(problem) = self.may_bind(&flow, &key, worker) {
                self.problem = Some(problem);
                return Ok(Vec::new());
            }
            self.answers
                .insert((worker, flow.bound, key.protocol), (key, flow.backend));
        }
        self.flows.insert(key, flow.clone());
        self.times.packet(key);
        self.touched = Some(key);
        self.carry(frame, ip, transport, &flow, seen)
    }

    /// The answer to a segment that has no flow.
    fn refused(&self, frame: &[u8], ip: &Ip, transport: &Transport, why: Outcome) -> Expectation {
        if transport.flags & RST != 0 {
            // RFC 9293, section 3.10.7.1: "An incoming segment containing a RST is discarded."
            return Err(Outcome::StrayReset);
        }
        if !ip.is_first {
            return Err(Outcome::FragmentUnknown);
        }
        answered(why, emit::reset(frame, ip, transport))
    }

    /// Sends a packet as one of these flows would be sent.
    fn carry_to_any(
        &mut self,
        frame: &[u8],
        ip: &Ip,
        transport: &Transport,
        seen: &Seen,
        flows: impl Iterator<Item = Flow>,
    ) -> Vec<Expected> {
        let each = flows.map(|flow| match self.carry(frame, ip, transport, &flow, seen) {
            Ok(expected) => expected,
            Err(outcome) => vec![Expected::without_frame(frame, outcome)],
        });
        each.collect::<Vec<_>>().concat()
    }

    /// Sends a packet to the backend of a flow.
    fn carry(&mut self, frame: &[u8], ip: &Ip, transport: &Transport, flow: &Flow, seen: &Seen) -> Expectation {
        let service = &self.services[flow.service];
        let Some(backend) = service.backends.iter().find(|backend| backend.id == flow.backend) else {
            return Err(Outcome::NotOurs);
        };
        let (mode, hop) = (service.mode, &backend.hop);
        let overhead = match mode {
            Mode::Nat | Mode::Dnat | Mode::Dsr => 0,
            _ => (if backend.address.is_ipv6() { 40 } else { 20 }) + (if mode == Mode::Gue { 8 } else { 0 }),
        };
        if ip.end - ip.l3 + overhead > hop.mtu {
            return answered(Outcome::TooBig, emit::too_big(frame, ip, hop.mtu - overhead));
        }
        if mode == Mode::Dsr {
            return sent(emit::to_hop(frame, ip, hop));
        }
        if ip.ttl <= 1 {
            return Err(Outcome::TtlExceeded);
        }
        if mode.translates() {
            let from = if mode == Mode::Nat {
                flow.bound
            } else {
                SocketAddr::new(ip.source, transport.source)
            };
            return sent(emit::to_hop(
                &emit::translated(frame, ip, from, backend.address),
                ip,
                hop,
            ));
        }
        let Some(spread) = backend.spread_of(mode, &seen.bytes) else {
            return Ok(Vec::new());
        };
        let whose = (ip.source, transport.source, transport.destination, backend.id);
        let out = emit::tunnelled(frame, ip, mode, backend, spread);
        if seen.bytes == out {
            let known: Spread = *self.spreads.entry(whose).or_insert(spread);
            if known != spread {
                self.problem = Some(format!("the outer header of the flow, {known:?}"));
            }
        }
        sent(out)
    }
}

impl Expected {
    /// That no other frame leaves: this one passes as it is, or none does.
    fn without_frame(frame: &[u8], outcome: Outcome) -> Self {
        let bytes = (outcome.action() == Action::Pass).then(|| frame.to_vec());
        Self { outcome, bytes }
    }

    /// One line for the report of a divergence.
    pub fn line(&self) -> String {
        match &self.bytes {
            Some(bytes) => format!("{} {}", self.outcome.name(), crate::fuzz::hex(bytes)),
            None => self.outcome.name().to_string(),
        }
    }
}
