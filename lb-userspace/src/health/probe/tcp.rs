//! Is a TCP connection accepted?

use std::net::SocketAddr;

use nix::libc;
use tokio::net::{TcpSocket, TcpStream};

use super::ProbeFailure;

/// Connects and closes.
pub(super) async fn probe(address: SocketAddr) -> Result<(), ProbeFailure> {
    let stream = connect(address).await?;
    // The balancer asks often; closing by reset leaves no connection in TIME-WAIT here, nor one to serve there.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    Ok(())
}

/// A connection to the backend. It is made without waiting for lost packets longer than the check does.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeFailure> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let stream = async { socket?.connect(address).await }
        .await
        .map_err(|error| match error.raw_os_error() {
            // A neighbour that does not answer.
            Some(libc::EHOSTUNREACH) => ProbeFailure::Connect(std::io::ErrorKind::HostUnreachable.into()),
            _ => ProbeFailure::Connect(error),
        })?;
    Ok(stream)
}
