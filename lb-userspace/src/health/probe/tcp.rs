//! Is a TCP connection accepted?

use nix::libc;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::{Place, ProbeFailure};

/// Connects and closes.
pub(super) async fn probe(to: &Place) -> Result<(), ProbeFailure> {
    let stream = connect(to).await?;
    // The balancer asks often; closing by reset leaves no connection in TIME-WAIT here, nor one to serve there.
    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    Ok(())
}

/// A connection to the backend. It is made without waiting for lost packets longer than the check does.
pub(super) async fn connect(to: &Place) -> Result<TcpStream, ProbeFailure> {
    let socket = if to.address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.map_err(ProbeFailure::Connect)?;
    if let Some(origin) = &to.origin {
        origin.bind(&SockRef::from(&socket)).map_err(ProbeFailure::Here)?;
    }
    let stream = socket
        .connect(to.address)
        .await
        .map_err(|error| match error.raw_os_error() {
            // A neighbour that does not answer.
            Some(libc::EHOSTUNREACH) => ProbeFailure::Connect(std::io::ErrorKind::HostUnreachable.into()),
            _ => ProbeFailure::Connect(error),
        })?;
    Ok(stream)
}
