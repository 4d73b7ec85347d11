//! Is a datagram answered as expected?

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::UdpSocket;

use super::ProbeFailure;
use crate::config::UdpProbe;

/// Bytes of the longest reply that is looked at.
const LARGEST_REPLY: usize = 64 * 1024;

/// Sends, and waits for a reply that is as expected.
pub(super) async fn probe(address: SocketAddr, probe: &UdpProbe) -> Result<(), ProbeFailure> {
    let socket = connect(address).await?;
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
pub(super) async fn probe_silence(
    address: SocketAddr,
    probe: &UdpProbe,
    timeout: Duration,
) -> Result<(), ProbeFailure> {
    let socket = connect(address).await?;
    match tokio::time::timeout(timeout, ask(&socket, &probe.payload)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Ok(()),
    }
}

/// A socket that takes replies of nobody else, and hears what ICMP says about its datagrams.
pub(super) async fn connect(address: SocketAddr) -> Result<UdpSocket, ProbeFailure> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any).await.map_err(ProbeFailure::Here)?;
    socket.connect(address).await.map_err(ProbeFailure::Connect)?;
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
