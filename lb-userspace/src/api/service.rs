//! Services as JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BackendStatus;

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// Virtual address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// First port of the service.
    pub port: u16,
    /// Last port of the service; the same as `port` if it has only one.
    pub last_port: u16,
    /// Protocol: `tcp` or `udp`.
    pub protocol: String,
    /// Forwarding mode: `nat`, `dnat`, `dsr`, `ipip` or `gue`.
    pub mode: String,
    /// Rule that chooses a backend for a new flow, such as `round-robin`.
    pub scheduler: String,
    /// What happens to the flows of a backend that is down: `reset`, `reschedule` or `hold`.
    pub on_backend_down: String,
    /// Who takes new flows. `healthy`: the healthy backends. `panic`: all backends, because too few
    /// are healthy. `fallback`: the fallback, because no other backend is up. `no-backend`: nobody,
    /// so new flows are refused. `unknown`: no backend was checked yet.
    #[serde(default)]
    #[schema(required)]
    pub condition: String,
    /// Backends that take new flows, without fallbacks.
    pub backends_up: u64,
    /// All backends, without fallbacks.
    pub backends_total: u64,
    /// Established flows.
    pub active: u64,
    /// Flows that are not established yet.
    pub embryonic: u64,
    /// Flows since the maps were created.
    pub total: u64,
}

impl ServiceStatus {
    /// How many of these backends are up, and how many there are. Fallbacks do not count.
    pub fn count(backends: &[BackendStatus]) -> (u64, u64) {
        let counted = || backends.iter().filter(|backend| !backend.fallback);
        let up = counted().filter(|backend| backend.state == "up");
        (up.count() as u64, counted().count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::ServiceStatus;
    use crate::api::samples;

    #[test]
    fn fallbacks_do_not_count_as_backends_of_a_service() {
        // Whether it is a fallback, and its state.
        let backends = [
            (false, "up"),
            (false, "down"),
            (false, "draining"),
            (true, "up"),
            (true, "down"),
        ];
        let backends = backends.map(|(fallback, state)| {
            let mut backend = samples::backends().remove(0);
            (backend.fallback, backend.state) = (fallback, state.to_owned());
            backend
        });
        assert_eq!(ServiceStatus::count(&backends), (1, 3));
    }
}
