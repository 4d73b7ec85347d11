//! What the model knows: services as they are configured, flows as they came.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use lb_common::{BackendState, Mode, OnBackendDown, Outcome, Phase};
use lb_core::reconcile::desired::DesiredService;

use super::{
    again::Times,
    emit::Spread,
    frame::{Ip, address, word16, word32},
};

/// Where frames go: link-layer addresses and VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Destination.
    pub to: [u8; 6],
    /// Source.
    pub from: [u8; 6],
    /// Outer and inner VLAN; 0 for none.
    pub vlans: [u16; 2],
    /// The largest IP packet.
    pub mtu: usize,
}

impl Hop {
    /// Back to where a frame came from.
    pub fn back(frame: &[u8], ip: &Ip) -> Self {
        Self {
            to: frame[6..12].try_into().expect("six bytes"),
            from: frame[..6].try_into().expect("six bytes"),
            vlans: ip.vlans(),
            mtu: usize::MAX,
        }
    }
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Differs for a backend that takes the place of one with the same address.
    pub id: u32,
    /// Address and port.
    pub address: SocketAddr,
    /// Whether it takes packets.
    pub state: BackendState,
    /// Where its frames go.
    pub hop: Hop,
    /// Outer source addresses of a tunnel.
    pub tunnel: Option<IpNet>,
    /// UDP port of the far end.
    pub tunnel_port: u16,
}

impl Backend {
    /// What the outer header of a frame spreads by, where that is allowed.
    pub(super) fn spread_of(&self, mode: Mode, out: &[u8]) -> Option<Spread> {
        let l3 = 14 + 4 * self.hop.vlans.iter().filter(|vlan| **vlan != 0).count();
        let v6 = self.address.is_ipv6();
        let source = address(out, l3 + if v6 { 8 } else { 12 }, v6)?;
        let spread = Spread {
            source,
            label: if v6 { word32(out, l3)? & 0xf_ffff } else { 0 },
            port: match mode {
                Mode::Gue => word16(out, l3 + if v6 { 40 } else { 20 })?,
                _ => 0,
            },
        };
        // RFC 6335, section 6: the dynamic ports.
        let is_dynamic = mode != Mode::Gue || spread.port >= 49152;
        (is_dynamic && self.tunnel?.contains(&source)).then_some(spread)
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Virtual address and port, and the protocol.
    pub at: (SocketAddr, u8),
    /// How packets reach workers.
    pub mode: Mode,
    /// What happens to the flows of a backend that is down.
    pub on_backend_down: OnBackendDown,
    /// Source addresses of `nat`.
    pub sources: Vec<IpAddr>,
    /// Source ports of `nat`.
    pub ports: (u16, u16),
    /// The backends.
    pub backends: Vec<Backend>,
}

impl Service {
    /// The backends that take new flows.
    pub fn up(&self) -> impl Iterator<Item = &Backend> {
        self.backends.iter().filter(|backend| backend.state == BackendState::Up)
    }
}

/// What identifies a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The client.
    pub client: SocketAddr,
    /// Virtual address and port.
    pub service: SocketAddr,
    /// TCP or UDP.
    pub protocol: u8,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Index of its service.
    pub service: usize,
    /// Its backend.
    pub backend: u32,
    /// Where the worker answers to.
    pub bound: SocketAddr,
    /// How far its connection has come.
    pub phase: Phase,
    /// Where its client's packets come from.
    pub hop: Hop,
}

/// Source and destination address, identification, protocol.
type FragmentKey = (IpAddr, IpAddr, u32, u8);

/// What the program should know.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The services.
    pub services: Vec<Service>,
    /// The flows.
    pub flows: HashMap<Key, Flow>,
    /// Whose the answers are that a worker sends to an address, and the backend that the worker
    /// was.
    pub(super) answers: HashMap<(SocketAddr, SocketAddr, u8), (Key, u32)>,
    pub(super) fragments: HashMap<FragmentKey, (u16, u16)>,
    pub(super) spreads: HashMap<(IpAddr, u16, u16, u32), Spread>,
    pub(super) times: Times,
    /// The flow that the last frame belonged to.
    pub(super) touched: Option<Key>,
    pub(super) problem: Option<String>,
    /// Workers that were there once: the program may still look at their packets.
    once: Vec<IpAddr>,
    next_id: u32,
}

impl Model {
    /// Takes over a configuration. Services stay in their places.
    pub fn configure(&mut self, desired: &[DesiredService]) {
        let before = std::mem::take(&mut self.services);
        self.once.extend(
            before
                .iter()
                .flat_map(|service| &service.backends)
                .map(|backend| backend.address.ip()),
        );
        for (index, service) in desired.iter().enumerate() {
            let backends = service.backends.iter().map(|backend| {
                let old = before
                    .get(index)
                    .and_then(|service| service.backends.iter().find(|old| old.address == backend.address));
                let hop = backend.next_hop.expect("the fuzz knows all next hops");
                let vlan = |shift: u32| u16::from_be((hop.tags.0 >> shift) as u16) & 0xfff;
                Backend {
                    id: old.map_or_else(
                        || {
                            self.next_id += 1;
                            self.next_id
                        },
                        |old| old.id,
                    ),
                    address: backend.address,
                    state: backend.state.expect("the fuzz knows all states"),
                    hop: Hop {
                        to: hop.destination(),
                        from: hop.source(),
                        vlans: [vlan(0), vlan(16)],
                        mtu: hop.mtu as usize,
                    },
                    tunnel: backend.tunnel.map(|tunnel| tunnel.source),
                    tunnel_port: backend.tunnel.map_or(0, |tunnel| tunnel.port),
                }
            });
            self.services.push(Service {
                at: (
                    SocketAddr::new(service.at.address, service.at.port),
                    service.at.protocol,
                ),
                mode: service.mode,
                on_backend_down: service.on_backend_down,
                sources: service.sources.clone(),
                ports: (service.nat_ports.low, service.nat_ports.high),
                backends: backends.collect(),
            });
        }
    }

    /// Whether an address is a virtual one.
    pub(super) fn is_virtual(&self, address: IpAddr) -> bool {
        self.services.iter().any(|service| service.at.0.ip() == address)
    }

    /// Whether the program looks at a packet at all.
    pub(super) fn is_ours(&self, ip: &Ip) -> bool {
        let is_to =
            |service: &Service| service.at.0.ip() == ip.destination || service.sources.contains(&ip.destination);
        let is_from = |service: &Service| {
            service.mode == Mode::Dnat && service.backends.iter().any(|backend| backend.address.ip() == ip.source)
        };
        self.services.iter().any(|service| is_to(service) || is_from(service))
    }

    /// Whether the program may look further at a packet that is not ours: its first look is at a
    /// small hash of the addresses, and at workers that were there once.
    pub(super) fn may_be_taken_for_ours(&self, frame: &[u8], outcome: Outcome) -> bool {
        if outcome != Outcome::NotOurs {
            return false;
        }
        Ip::read(frame).is_ok_and(|ip| {
            !self.is_ours(&ip)
                && (self.once.contains(&ip.source)
                    || !crate::fuzz::is_known(ip.source)
                    || !crate::fuzz::is_known(ip.destination))
        })
    }

    /// The flow that a worker's packet answers.
    pub(super) fn flow_of_answer(&self, from: SocketAddr, to: SocketAddr, protocol: u8) -> Option<Key> {
        let (key, backend) = self.answers.get(&(from, to, protocol))?;
        let is_there = |service: &Service| service.backends.iter().any(|other| other.id == *backend);
        self.services.iter().any(is_there).then_some(*key)
    }

    /// The backend of a flow, where it is still there.
    pub fn backend(&self, flow: &Flow) -> Option<&Backend> {
        let backends = &self.services[flow.service].backends;
        backends.iter().find(|backend| backend.id == flow.backend)
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.flows.remove(key);
        self.answers.retain(|_, (other, _)| other != key);
    }

    /// Whether a new flow may be bound to the port that it was bound to.
    pub(super) fn may_bind(&self, flow: &Flow, key: &Key, worker: SocketAddr) -> Result<(), String> {
        let service = &self.services[flow.service];
        if service.mode == Mode::Dnat {
            return if flow.bound == key.client {
                Ok(())
            } else {
                Err(format!("answers to the client, not to {}", flow.bound))
            };
        }
        let holder = |bound| self.answers.get(&(worker, bound, key.protocol));
        // What a backend left behind may hold its ports or not.
        let is_taken = |bound| holder(bound).is_some_and(|(_, backend)| *backend == flow.backend);
        let (low, high) = service.ports;
        let is_port = |port| (low..=high).contains(&port);
        let own = service
            .sources
            .iter()
            .map(|source| SocketAddr::new(*source, key.client.port()));
        let keeps_own = is_port(key.client.port()) && own.clone().all(|own| holder(own).is_none());
        if is_taken(flow.bound) {
            Err(format!("a free port, not {}", flow.bound))
        } else if !service.sources.contains(&flow.bound.ip()) || !is_port(flow.bound.port()) {
            Err(format!("a source of the service, not {}", flow.bound))
        } else if keeps_own && flow.bound.port() != key.client.port() {
            Err(format!("the client's own port, not {}", flow.bound))
        } else {
            Ok(())
        }
    }
}
