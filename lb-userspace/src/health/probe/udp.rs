//! Is a datagram answered as expected?

use std::{io, time::Duration};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{Place, ProbeFailure};
use lb_core::config::UdpProbe;

/// Bytes of the longest reply that is looked at.
const LARGEST_REPLY: usize = 64 * 1024;

/// Sends, and waits for a reply that is as expected.
pub(super) async fn probe(to: &Place, probe: &UdpProbe) -> Result<(), ProbeFailure> {
    let socket = connect(to).await?;
    let reply = ask(&socket, &probe.payload).await?;
    match &probe.reply {
        Some(pattern) if !pattern.is_in(&reply) => Err(ProbeFailure::Text {
            what: "reply",
            pattern: pattern.clone(),
            length: reply.len(),
        }),
        _ => Ok(()),
    }
}

/// Sends, and waits for somebody to say that nobody is there: silence is a success.
pub(super) async fn probe_silence(to: &Place, probe: &UdpProbe, timeout: Duration) -> Result<(), ProbeFailure> {
    let socket = connect(to).await?;
    match tokio::time::timeout(timeout, ask(&socket, &probe.payload)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Ok(()),
    }
}

/// A socket that takes replies of nobody else, and hears what ICMP says about its datagrams.
pub(super) async fn connect(to: &Place) -> Result<UdpSocket, ProbeFailure> {
    let domain = Domain::for_address(to.address);
    let opened = || {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), None)?;
        if let Some(origin) = &to.origin {
            origin.bind(&SockRef::from(&socket))?;
        }
        UdpSocket::from_std(socket.into())
    };
    let socket: UdpSocket = opened().map_err(ProbeFailure::Here)?;
    socket.connect(to.address).await.map_err(ProbeFailure::Connect)?;
    Ok(socket)
}

/// Sends a datagram and takes the next one that comes.
pub(super) async fn ask(socket: &UdpSocket, payload: &[u8]) -> Result<Vec<u8>, ProbeFailure> {
    socket.send(payload).await.map_err(ProbeFailure::Connect)?;
    receive(socket).await
}

/// The next datagram.
pub(super) async fn receive(socket: &UdpSocket) -> Result<Vec<u8>, ProbeFailure> {
    let mut reply = vec![0; LARGEST_REPLY];
    let received: io::Result<usize> = socket.recv(&mut reply).await;
    reply.truncate(received.map_err(ProbeFailure::Connect)?);
    Ok(reply)
}
