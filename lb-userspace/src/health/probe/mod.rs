//! One health check of each type.

mod command;
mod dns;
mod grpc;
mod http;
mod icmp;
mod stream;
mod tcp;
mod udp;

use std::{io, net::SocketAddr};

use socket2::SockRef;

use super::{ProbeFailure, Target, vip_probe::source};
use lb_core::config::{BackendId, Probe};

/// The endpoint that a check asks.
struct Endpoint {
    /// What the socket connects to.
    address: SocketAddr,
    /// Address and port as the backend knows them: the same, or the virtual address where `address`
    /// is a placeholder.
    authority: SocketAddr,
    /// What the socket is bound to. `None`: the kernel chooses.
    binding: Option<Binding>,
}

/// The local address and device of a socket.
struct Binding {
    address: SocketAddr,
    device: String,
}

impl Binding {
    fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.bind_device(Some(self.device.as_bytes()))?;
        socket.bind(&self.address.into())
    }
}

impl Endpoint {
    fn of(target: &Target) -> io::Result<Self> {
        let address = target.address;
        let Some(path) = &target.vip_path else {
            return Ok(Self {
                address,
                authority: address,
                binding: None,
            });
        };
        Ok(Self {
            address,
            authority: SocketAddr::new(path.virtual_address, address.port()),
            binding: Some(Binding {
                address: SocketAddr::new(source(path, &target.virtual_addresses)?, 0),
                device: path.device.clone(),
            }),
        })
    }
}

/// Makes one check.
///
/// # Errors
///
/// Why the backend is not healthy, or why the check could not be made.
pub(super) async fn probe(id: &BackendId, target: &Target) -> Result<(), ProbeFailure> {
    let timeout = target.check.timing.timeout;
    let to = Endpoint::of(target).map_err(ProbeFailure::Local)?;
    let tls = target.resources.tls.as_ref();
    let checked = async {
        match &target.check.probe {
            Probe::Tcp => tcp::probe(&to).await,
            Probe::Http(probe) => http::probe(&to, probe, tls).await,
            Probe::Grpc(probe) => grpc::probe(&to, probe, tls).await,
            Probe::Udp(probe) if !probe.require_reply => udp::probe_silence(&to, probe, timeout).await,
            Probe::Udp(probe) => udp::probe(&to, probe).await,
            Probe::Dns(probe) => dns::probe(&to, probe).await,
            Probe::Icmp => icmp::probe(to.address.ip()).await,
            Probe::Command(probe) => match &target.resources.user {
                Some(user) => command::probe(id, to.address, probe, user).await,
                None => Err(ProbeFailure::Local(io::Error::other("no user to run the command as"))),
            },
        }
    };
    // A check that succeeds by silence ends at its timeout, so the limit must be later.
    let limit = match &target.check.probe {
        Probe::Udp(probe) if !probe.require_reply => timeout * 2,
        _ => timeout,
    };
    tokio::time::timeout(limit, checked)
        .await
        .unwrap_or(Err(ProbeFailure::Timeout(timeout)))
}

#[cfg(test)]
mod tests;
