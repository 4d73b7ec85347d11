//! Backends as JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackendStatus {
    /// Name of the service.
    pub service: String,
    /// Name of the backend, unique in the service.
    pub name: String,
    /// Address and port. Port 0: the port that the client chose is kept.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Whether this is a fallback: it takes new flows only while no other backend of the service
    /// does.
    pub fallback: bool,
    /// Weight in force: the share of new flows relative to the other backends.
    pub weight: u32,
    /// Weight in the configuration.
    pub configured_weight: u32,
    /// State: `up`, `draining`, `down` or `unknown`.
    pub state: String,
    /// Cause of the state.
    pub cause: String,
    /// Override that an operator set; `null` if there is none.
    #[serde(rename = "override")]
    #[schema(required)]
    pub overridden: Option<OverrideStatus>,
    /// Result of the health check; `null` if the backend is not checked.
    #[schema(required)]
    pub health: Option<HealthStatus>,
    /// Where packets to the backend are sent; `null` if it is not resolved yet.
    #[schema(required)]
    pub next_hop: Option<NextHopStatus>,
    /// Why there is no next hop; `null` if there is one.
    #[schema(required)]
    pub next_hop_problem: Option<String>,
    /// Established flows.
    pub active: u64,
    /// Flows that are not established yet.
    pub embryonic: u64,
    /// Flows since the entry of the backend in the maps was created. The counters below start there
    /// too.
    pub total: u64,
    /// Packets sent to the backend.
    pub to_worker_packets: u64,
    /// Bytes sent to the backend.
    pub to_worker_bytes: u64,
    /// Packets from the backend, sent to clients.
    pub to_client_packets: u64,
    /// Bytes from the backend, sent to clients.
    pub to_client_bytes: u64,
}

/// An override of a backend: what an operator decided beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverrideStatus {
    /// `drain` or `disable`; `null` if only the weight is overridden.
    #[schema(required)]
    pub intent: Option<String>,
    /// Time when the intent was set, as RFC 3339 in UTC.
    #[schema(required)]
    pub since: Option<String>,
    /// Time when the remaining flows of a drain end, as RFC 3339 in UTC; `null` if there is no
    /// deadline.
    #[schema(required)]
    pub deadline: Option<String>,
    /// Time until then, in seconds.
    #[schema(required)]
    pub seconds_left: Option<u64>,
    /// Weight in place of the configured one; `null` if it is not overridden.
    #[schema(required)]
    pub weight: Option<u32>,
}

/// Result of the health check of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthStatus {
    /// Verdict: `up`, `down` or `unknown`.
    pub verdict: String,
    /// Time of the last change of the verdict, as RFC 3339 in UTC.
    pub since: String,
    /// Cause of the verdict, or the result of the last check.
    pub cause: String,
    /// Why the backend is suspect: the next failed check takes it down. `null` if it is not
    /// suspect.
    #[serde(default)]
    #[schema(required)]
    pub suspect: Option<String>,
    /// Progress of checks that contradict the verdict; `null` if there are none.
    #[serde(default)]
    #[schema(required)]
    pub progress: Option<String>,
    /// Error of the last check; `null` if it succeeded.
    #[serde(default)]
    #[schema(required)]
    pub last_failure: Option<String>,
    /// Checks since `lbd` started.
    pub checks: u64,
    /// Failed checks since `lbd` started.
    pub failures: u64,
    /// Duration of the last check, in milliseconds; `null` if there was none yet.
    #[schema(required)]
    pub last_duration_ms: Option<f64>,
}

/// Where packets to a backend are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextHopStatus {
    /// Name of the interface.
    pub interface: String,
    /// Ethernet address, such as `02:00:00:00:00:01`.
    pub mac: String,
}
