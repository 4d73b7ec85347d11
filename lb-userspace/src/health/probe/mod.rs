//! The questions that are asked.

mod http;
mod tcp;

use std::net::SocketAddr;

use super::ProbeFailure;
use crate::config::{HealthCheck, Probe};

/// Asks once.
///
/// # Errors
///
/// Why the backend does not count as well.
pub(super) async fn probe(address: SocketAddr, check: &HealthCheck) -> Result<(), ProbeFailure> {
    let asked = async {
        match &check.probe {
            Probe::Tcp => tcp::probe(address).await,
            Probe::Http(probe) => http::probe(address, probe).await,
        }
    };
    tokio::time::timeout(check.timeout, asked).await.unwrap_or(Err(ProbeFailure::Timeout(check.timeout)))
}

#[cfg(test)]
mod tests;
