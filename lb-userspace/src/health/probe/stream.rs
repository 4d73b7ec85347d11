//! Connections to backends, in the clear or by TLS.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Place, ProbeFailure, tcp};
use crate::{config::TlsClient, health::means::ClientTls};

/// What protocols speak over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection.
pub(super) async fn connect(
    to: &Place,
    tls: Option<(&TlsClient, &ClientTls)>,
) -> Result<Box<dyn Stream>, ProbeFailure> {
    let stream = tcp::connect(to).await?;
    // Requests are short, and written at once.
    let _ = stream.set_nodelay(true);
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
