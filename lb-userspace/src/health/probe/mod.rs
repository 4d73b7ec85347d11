//! The questions that are asked.

mod command;
mod dns;
mod grpc;
mod http;
mod icmp;
mod stream;
mod tcp;
mod udp;

use super::{ProbeFailure, Target, TargetId};
use crate::config::Probe;

/// Asks once.
///
/// # Errors
///
/// Why the backend does not count as well.
pub(super) async fn probe(id: &TargetId, target: &Target) -> Result<(), ProbeFailure> {
    let timeout = target.check.timing.timeout;
    let address = target.address;
    let tls = target.means.tls.as_ref();
    let asked = async {
        match &target.check.probe {
            Probe::Tcp => tcp::probe(address).await,
            Probe::Http(probe) => http::probe(address, probe, tls).await,
            Probe::Grpc(probe) => grpc::probe(address, probe, tls).await,
            Probe::Udp(probe) if !probe.require_reply => udp::probe_silence(address, probe, timeout).await,
            Probe::Udp(probe) => udp::probe(address, probe).await,
            Probe::Dns(probe) => dns::probe(address, probe).await,
            Probe::Icmp => icmp::probe(address.ip()).await,
            Probe::Command(probe) => command::probe(id, address, probe, target.means.user).await,
        }
    };
    // A check that waits for silence waits all of its time.
    let patience = match &target.check.probe {
        Probe::Udp(probe) if !probe.require_reply => timeout * 2,
        _ => timeout,
    };
    tokio::time::timeout(patience, asked)
        .await
        .unwrap_or(Err(ProbeFailure::Timeout(timeout)))
}

#[cfg(test)]
mod tests;
