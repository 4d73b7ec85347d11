//! The `udp` check: the backend must reply to a datagram as expected. Also the datagram sockets of
//! other checks.

use std::{io, time::Duration};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{Endpoint, ProbeFailure};
use lb_core::config::UdpProbe;

/// The longest reply that is read, in bytes.
const LARGEST_REPLY: usize = 64 * 1024;

/// Sends the payload and checks the reply.
pub(super) async fn probe(to: &Endpoint, probe: &UdpProbe) -> Result<(), ProbeFailure> {
    let socket = connect(to).await?;
    let reply = request(&socket, &probe.payload).await?;
    match &probe.reply {
        Some(pattern) if !pattern.is_in(&reply) => Err(ProbeFailure::Text {
            what: "reply",
            pattern: pattern.clone(),
            length: reply.len(),
        }),
        _ => Ok(()),
    }
}

/// Sends the payload and waits for an ICMP error until the timeout. Silence is a success, as
/// `require_reply = false` says.
pub(super) async fn probe_silence(to: &Endpoint, probe: &UdpProbe, timeout: Duration) -> Result<(), ProbeFailure> {
    let socket = connect(to).await?;
    match tokio::time::timeout(timeout, request(&socket, &probe.payload)).await {
        Ok(reply) => reply.map(drop),
        Err(_) => Ok(()),
    }
}

/// A connected socket: it receives only from the backend, and reports ICMP errors.
pub(super) async fn connect(to: &Endpoint) -> Result<UdpSocket, ProbeFailure> {
    let domain = Domain::for_address(to.address);
    let opened = || {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), None)?;
        if let Some(binding) = &to.binding {
            binding.apply(&SockRef::from(&socket))?;
        }
        UdpSocket::from_std(socket.into())
    };
    let socket: UdpSocket = opened().map_err(ProbeFailure::Local)?;
    socket.connect(to.address).await.map_err(ProbeFailure::Connect)?;
    Ok(socket)
}

/// Sends a datagram and receives the next one.
pub(super) async fn request(socket: &UdpSocket, payload: &[u8]) -> Result<Vec<u8>, ProbeFailure> {
    socket.send(payload).await.map_err(ProbeFailure::Connect)?;
    receive(socket).await
}

/// Receives the next datagram.
pub(super) async fn receive(socket: &UdpSocket) -> Result<Vec<u8>, ProbeFailure> {
    let mut reply = vec![0; LARGEST_REPLY];
    let received: io::Result<usize> = socket.recv(&mut reply).await;
    reply.truncate(received.map_err(ProbeFailure::Connect)?);
    Ok(reply)
}
