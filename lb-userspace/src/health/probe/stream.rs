//! Connections of the `http`, `https` and `grpc` checks: TCP, with TLS if configured.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::{Endpoint, ProbeFailure, tcp};
use crate::health::probe_resources::ClientTls;
use lb_core::config::TlsClient;

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How much is read from a connection in total, in bytes, including the messages of TLS. No
/// response that a check accepts is larger, even with certificates before it.
const READ_LIMIT: usize = 256 * 1024;

/// A connection that fails once the backend has sent more than [`READ_LIMIT`]. Otherwise a backend
/// that sends without end could keep the thread busy.
struct Capped<S> {
    stream: S,
    /// Bytes that may still be read.
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if read > self.left {
            let error = format!("the backend sent more than {READ_LIMIT} bytes");
            return Poll::Ready(Err(io::Error::other(error)));
        }
        self.left -= read;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connects to the backend, and makes the TLS handshake if TLS is configured.
pub(super) async fn connect(
    to: &Endpoint,
    tls: Option<(&TlsClient, &ClientTls)>,
) -> Result<Box<dyn Stream>, ProbeFailure> {
    let stream = tcp::connect(to).await?;
    // A request is written at once, so it need not wait for more data.
    let _ = stream.set_nodelay(true);
    // The limit is below TLS, because TLS itself would accept handshake messages without end.
    let stream = Capped {
        stream,
        left: READ_LIMIT,
    };
    let Some((config, client)) = tls else {
        return Ok(Box::new(stream));
    };
    let name = match &config.server_name {
        Some(name) => ServerName::try_from(name.clone()).map_err(|error| ProbeFailure::Tls(error.to_string()))?,
        None => to.authority.ip().into(),
    };
    let connector = TlsConnector::from(std::sync::Arc::clone(&client.config));
    let stream = connector.connect(name, stream).await.map_err(|error| {
        // The error of the library is inside the system error.
        let inner = error.get_ref().map(ToString::to_string);
        ProbeFailure::Tls(inner.unwrap_or_else(|| error.to_string()))
    })?;
    Ok(Box::new(stream))
}
