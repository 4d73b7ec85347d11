//! The questions that are asked.

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

use super::{ProbeFailure, Target, through::origin};
use lb_core::config::BackendId;
use lb_core::config::Probe;

/// Where a check goes.
struct Place {
    /// What a socket is connected to.
    address: SocketAddr,
    /// What the other side is called by: the same, but for stand-ins.
    name: SocketAddr,
    /// What a socket is bound to, if it matters.
    origin: Option<Origin>,
}

/// What a socket is bound to.
struct Origin {
    address: SocketAddr,
    device: String,
}

impl Origin {
    fn bind(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.bind_device(Some(self.device.as_bytes()))?;
        socket.bind(&self.address.into())
    }
}

fn place(target: &Target) -> io::Result<Place> {
    let address = target.address;
    let Some(way) = &target.way else {
        return Ok(Place {
            address,
            name: address,
            origin: None,
        });
    };
    Ok(Place {
        address,
        name: SocketAddr::new(way.virtual_address, address.port()),
        origin: Some(Origin {
            address: SocketAddr::new(origin(way, &target.avoided)?, 0),
            device: way.device.clone(),
        }),
    })
}

/// Asks once.
///
/// # Errors
///
/// Why the backend does not count as well.
pub(super) async fn probe(id: &BackendId, target: &Target) -> Result<(), ProbeFailure> {
    let timeout = target.check.timing.timeout;
    let to = place(target).map_err(ProbeFailure::Here)?;
    let tls = target.means.tls.as_ref();
    let asked = async {
        match &target.check.probe {
            Probe::Tcp => tcp::probe(&to).await,
            Probe::Http(probe) => http::probe(&to, probe, tls).await,
            Probe::Grpc(probe) => grpc::probe(&to, probe, tls).await,
            Probe::Udp(probe) if !probe.require_reply => udp::probe_silence(&to, probe, timeout).await,
            Probe::Udp(probe) => udp::probe(&to, probe).await,
            Probe::Dns(probe) => dns::probe(&to, probe).await,
            Probe::Icmp => icmp::probe(to.address.ip()).await,
            Probe::Command(probe) => match &target.means.user {
                Some(user) => command::probe(id, to.address, probe, user).await,
                None => Err(ProbeFailure::Here(io::Error::other("nobody to run it as"))),
            },
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
