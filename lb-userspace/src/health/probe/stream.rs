//! Connections to backends, in the clear or by TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::{Place, ProbeFailure, tcp};
use crate::health::means::ClientTls;
use lb_core::config::TlsClient;

/// What protocols speak over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How much is read of a connection in all, in bytes, what TLS itself sends among it: more than any answer has that is looked
/// at, with the certificates before it.
const MOST: usize = 256 * 1024;

/// A connection that ends when the other side has sent more than it ever should: whoever sends without end, in pieces that all
/// mean nothing, would keep the thread busy.
struct Capped<S> {
    stream: S,
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
            let error = format!("more than {MOST} bytes came");
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

/// A connection.
pub(super) async fn connect(
    to: &Place,
    tls: Option<(&TlsClient, &ClientTls)>,
) -> Result<Box<dyn Stream>, ProbeFailure> {
    let stream = tcp::connect(to).await?;
    // Requests are short, and written at once.
    let _ = stream.set_nodelay(true);
    // Below TLS, which takes messages of its own without end and hands nothing on.
    let stream = Capped { stream, left: MOST };
    let Some((wanted, means)) = tls else {
        return Ok(Box::new(stream));
    };
    let name = match &wanted.server_name {
        Some(name) => ServerName::try_from(name.clone()).map_err(|error| ProbeFailure::Tls(error.to_string()))?,
        None => to.name.ip().into(),
    };
    let connector = TlsConnector::from(std::sync::Arc::clone(&means.config));
    let stream = connector.connect(name, stream).await.map_err(|error| {
        // The library's own words are within the system's error.
        let inner = error.get_ref().map(ToString::to_string);
        ProbeFailure::Tls(inner.unwrap_or_else(|| error.to_string()))
    })?;
    Ok(Box::new(stream))
}
