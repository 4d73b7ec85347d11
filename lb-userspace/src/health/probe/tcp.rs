//! The `tcp` check: the backend must accept a connection.

use nix::libc;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::{Endpoint, ProbeFailure};

/// Connects and closes.
pub(super) async fn probe(to: &Endpoint) -> Result<(), ProbeFailure> {
    let stream = connect(to).await?;
    // Checks are frequent. Closing with RST leaves no connection in TIME-WAIT here, and none to
    // serve on the backend.
    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    Ok(())
}

/// Connects to the backend. The caller limits the time.
pub(super) async fn connect(to: &Endpoint) -> Result<TcpStream, ProbeFailure> {
    let socket = if to.address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.map_err(ProbeFailure::Connect)?;
    if let Some(binding) = &to.binding {
        binding.apply(&SockRef::from(&socket)).map_err(ProbeFailure::Local)?;
    }
    let stream = socket
        .connect(to.address)
        .await
        .map_err(|error| match error.raw_os_error() {
            // The neighbour does not respond to ARP or ND.
            Some(libc::EHOSTUNREACH) => ProbeFailure::Connect(std::io::ErrorKind::HostUnreachable.into()),
            _ => ProbeFailure::Connect(error),
        })?;
    Ok(stream)
}
