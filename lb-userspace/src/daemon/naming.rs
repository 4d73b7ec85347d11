//! Names flows by the configuration: the maps know only addresses and indexes.

use std::{net::SocketAddr, sync::Arc};

use super::{InForce, entries::front};
use crate::{
    admin::model::FlowStatus,
    config::{self, Service},
    dataplane::{Tables, flows::FlowEntry},
    explain::{Explanation, Found, Question},
    reconcile::Front,
};

/// Names by what was in force at a moment.
pub(super) struct Namer(Arc<InForce>);

impl Namer {
    pub(super) fn new(in_force: Arc<InForce>) -> Self {
        Self(in_force)
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
            service: service.map(|service| service.name.clone()).unwrap_or_default(),
            backend_name: backend.unwrap_or_default().to_owned(),
            phase: entry.phase.name().to_owned(),
            idle_ms: (tables.clock.tick() * entry.idle(now)).as_millis() as u64,
        }
    }

    /// The service that packets to an address are for; a single port wins over a range that it lies in.
    fn service(&self, at: SocketAddr, protocol: u8) -> Option<&Service> {
        let services = self.0.config().services.iter().filter(|service| {
            service.protocol.number() == protocol && service.address == at.ip() && service.ports.contains(at.port())
        });
        services.min_by_key(|service| service.ports.count())
    }

    /// The name of the backend of a service at an address.
    fn backend<'a>(&'a self, service: &'a Service, worker: SocketAddr) -> Option<&'a str> {
        let is = |address: SocketAddr| address.ip() == worker.ip() && [0, worker.port()].contains(&address.port());
        let backend = service.backends.iter().find(|backend| is(backend.address));
        let leaving = self.0.overrides.all_leaving().iter();
        backend.map(|backend| backend.name.as_str()).or_else(|| {
            let mut leaving = leaving.filter(|leaving| leaving.service == service.name);
            leaving
                .find(|leaving| is(leaving.address))
                .map(|leaving| leaving.backend.as_str())
        })
    }

    /// An explanation with the names of service and backends.
    pub(super) fn explanation(&self, question: &Question, found: Found) -> Explanation {
        let named = |at: &Front| self.0.config().services.iter().find(|service| front(service) == *at);
        let service = found.service.as_ref().and_then(named);
        let service = service.or_else(|| self.service(question.virtual_address, question.protocol.number()));
        let backend = |worker: SocketAddr| {
            let name = service.and_then(|service| self.backend(service, worker));
            name.unwrap_or_default().to_owned()
        };
        found.into_explanation(question, service.map(|service| service.name.clone()), backend)
    }
}
