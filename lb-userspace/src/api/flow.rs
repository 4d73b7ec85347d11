//! Flows as JSON, and the filter that chooses some of them.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some flows, and the place where the next request continues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowPage {
    /// The flows, in no particular order.
    pub flows: Vec<FlowStatus>,
    /// The value of `after` in the next request; `null` if there are no more flows.
    #[schema(required)]
    pub cursor: Option<String>,
}

/// Number of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowCount {
    /// All flows that match the filter.
    pub total: u64,
    /// Flows by phase of the connection.
    pub phases: BTreeMap<String, u64>,
    /// Flows by name of the service. The empty name counts flows of services that left the
    /// configuration.
    pub services: BTreeMap<String, u64>,
}

/// A flow: one tracked connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowStatus {
    /// Protocol: `tcp` or `udp`.
    pub protocol: String,
    /// Address and port of the client.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// Address and port that the client connected to.
    #[schema(value_type = String)]
    pub virtual_address: SocketAddr,
    /// NAT source: the address and port that the worker sees as the sender.
    #[schema(value_type = String)]
    pub source: SocketAddr,
    /// Address and port of the backend.
    #[schema(value_type = String)]
    pub backend: SocketAddr,
    /// Name of the service; empty if it left the configuration.
    pub service: String,
    /// Name of the backend; empty if it left the configuration.
    pub backend_name: String,
    /// Phase of the connection, such as `established`.
    pub phase: String,
    /// Time since the last packet, in milliseconds.
    pub idle_ms: u64,
}

/// Result of a request to end flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flushed {
    /// Flows that were ended.
    pub ended: u64,
    /// Flows that stayed, because a packet changed them at the same moment. Try again to end them.
    pub kept: u64,
}

/// A filter of flows. A field that is `None` matches all flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Name of the service.
    pub service: Option<String>,
    /// Name of the backend, or `address:port`.
    pub backend: Option<String>,
    /// Address of the client.
    pub client: Option<IpAddr>,
}

impl FlowFilter {
    /// Whether a flow matches.
    pub fn admits(&self, flow: &FlowStatus) -> bool {
        let service = self.service.as_ref().is_none_or(|name| *name == flow.service);
        let client = self.client.is_none_or(|client| client == flow.client.ip());
        let backend = self.backend.as_ref().is_none_or(|backend| {
            *backend == flow.backend_name || backend.parse().is_ok_and(|address: SocketAddr| address == flow.backend)
        });
        service && client && backend
    }
}

impl fmt::Display for FlowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.map(|client| client.to_string());
        let parts = [
            ("service", &self.service),
            ("backend", &self.backend),
            ("client", &client),
        ];
        let named: Vec<String> = parts
            .into_iter()
            .filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)))
            .collect();
        if named.is_empty() {
            f.write_str("all services")
        } else {
            f.write_str(&named.join(", "))
        }
    }
}
