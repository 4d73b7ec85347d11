//! Names of services and backends for flows. The maps hold only addresses and indexes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    api::FlowStatus,
    daemon::{ActiveConfig, map_entries::front},
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

/// The names of one active configuration.
pub(in crate::daemon) struct Names {
    active: Arc<ActiveConfig>,
    /// Services by address and protocol, as positions in the configuration: the name of a flow is
    /// looked up for up to a million flows at once.
    services: HashMap<(IpAddr, u8), Vec<usize>>,
    /// Backends by position of their service and own address, as positions in the service.
    backends: HashMap<(usize, SocketAddr), usize>,
}

impl Names {
    pub(in crate::daemon) fn new(active: Arc<ActiveConfig>) -> Self {
        let mut services: HashMap<_, Vec<usize>> = HashMap::new();
        let mut backends = HashMap::new();
        for (position, service) in active.config().services.iter().enumerate() {
            let at = (service.address, service.protocol.number());
            services.entry(at).or_default().push(position);
            for (nth, backend) in service.backends.iter().enumerate() {
                backends.entry((position, backend.address)).or_insert(nth);
            }
        }
        Self {
            active,
            services,
            backends,
        }
    }

    /// The status of the flow of an entry. `now` is in ticks.
    pub(in crate::daemon) fn flow(&self, tables: &Tables, entry: &FlowEntry, now: u32) -> FlowStatus {
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
        &self.active.config().services
    }

    /// The position of the service that packets to an address belong to. A single port wins over a
    /// range that contains it.
    fn service(&self, at: SocketAddr, protocol: u8) -> Option<usize> {
        let here = self.services.get(&(at.ip(), protocol))?.iter().copied();
        here.filter(|position| self.all()[*position].ports.contains(at.port()))
            .min_by_key(|position| self.all()[*position].ports.count())
    }

    /// The name of the backend of a service with an address.
    fn backend(&self, position: usize, worker: SocketAddr) -> Option<&str> {
        let service = &self.all()[position];
        let any_port = SocketAddr::new(worker.ip(), 0);
        let known = [worker, any_port].map(|address| self.backends.get(&(position, address)));
        if let Some(nth) = known.into_iter().flatten().next() {
            return Some(&service.backends[*nth].name);
        }
        let mut leaving = self.active.overrides.all_leaving().iter();
        let is = |address: SocketAddr| [worker, any_port].contains(&address);
        leaving
            .find(|leaving| leaving.service == service.name && is(leaving.address))
            .map(|leaving| leaving.backend.as_str())
    }

    /// Adds the names of service and backends to an explanation.
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
