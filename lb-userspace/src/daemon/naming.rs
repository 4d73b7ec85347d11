//! Names flows by the configuration: the maps know only addresses and indexes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{InForce, entries::front};
use crate::{
    api::FlowStatus,
    dataplane::{
        Tables,
        explain::{Explanation, Found, Question},
        flows::FlowEntry,
    },
};
use lb_core::{
    config::{self, Service},
    reconcile::Front,
};

/// Names by what was in force at a moment.
pub(super) struct Namer {
    in_force: Arc<InForce>,
    /// Services by address and protocol, as positions in the configuration: a million flows are named at once.
    services: HashMap<(IpAddr, u8), Vec<usize>>,
    /// Backends by the position of their service and their address, as positions in it.
    backends: HashMap<(usize, SocketAddr), usize>,
}

impl Namer {
    pub(super) fn new(in_force: Arc<InForce>) -> Self {
        let mut services: HashMap<_, Vec<usize>> = HashMap::new();
        let mut backends = HashMap::new();
        for (position, service) in in_force.config().services.iter().enumerate() {
            let at = (service.address, service.protocol.number());
            services.entry(at).or_default().push(position);
            for (nth, backend) in service.backends.iter().enumerate() {
                backends.entry((position, backend.address)).or_insert(nth);
            }
        }
        Self {
            in_force,
            services,
            backends,
        }
    }

    /// What an entry of the flow table means. `now` is in ticks.
    pub(super) fn flow(&self, tables: &Tables, entry: &FlowEntry, now: u32) -> FlowStatus {
        let service = self.service(entry.key.destination, entry.key.protocol);
        let backend = service.and_then(|service| self.backend(service, entry.worker));
        FlowStatus {
            protocol: if entry.key.protocol == config::Protocol::Tcp.number() {
                "tcp"
            } else {
                "udp"
            }
            .to_owned(),
            client: entry.key.source,
            virtual_address: entry.key.destination,
            source: entry.rewrite.source,
            backend: entry.worker,
            service: service
                .map(|service| self.all()[service].name.clone())
                .unwrap_or_default(),
            backend_name: backend.unwrap_or_default().to_owned(),
            phase: entry.phase.name().to_owned(),
            idle_ms: (tables.clock.tick() * entry.idle(now)).as_millis() as u64,
        }
    }

    fn all(&self) -> &[Service] {
        &self.in_force.config().services
    }

    /// The position of the service that packets to an address are for; a single port wins over a range that it lies in.
    fn service(&self, at: SocketAddr, protocol: u8) -> Option<usize> {
        let here = self.services.get(&(at.ip(), protocol))?.iter().copied();
        here.filter(|position| self.all()[*position].ports.contains(at.port()))
            .min_by_key(|position| self.all()[*position].ports.count())
    }

    /// The name of the backend of a service at an address.
    fn backend(&self, position: usize, worker: SocketAddr) -> Option<&str> {
        let service = &self.all()[position];
        let any_port = SocketAddr::new(worker.ip(), 0);
        let known = [worker, any_port].map(|address| self.backends.get(&(position, address)));
        if let Some(nth) = known.into_iter().flatten().next() {
            return Some(&service.backends[*nth].name);
        }
        let mut leaving = self.in_force.overrides.all_leaving().iter();
        let is = |address: SocketAddr| [worker, any_port].contains(&address);
        leaving
            .find(|leaving| leaving.service == service.name && is(leaving.address))
            .map(|leaving| leaving.backend.as_str())
    }

    /// An explanation with the names of service and backends.
    pub(super) fn explanation(&self, question: &Question, found: Found) -> Explanation {
        let named = |at: &Front| self.all().iter().position(|service| front(service) == *at);
        let service = found.service.as_ref().and_then(named);
        let service = service.or_else(|| self.service(question.virtual_address, question.protocol.number()));
        let backend = |worker: SocketAddr| {
            let name = service.and_then(|service| self.backend(service, worker));
            name.unwrap_or_default().to_owned()
        };
        found.into_explanation(
            question,
            service.map(|service| self.all()[service].name.clone()),
            backend,
        )
    }
}
