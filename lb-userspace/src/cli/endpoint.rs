//! Connects to an admin API over TCP: `http://HOST:PORT` or `https://HOST:PORT`, with a token.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{args::Place, error::CliError};

/// Where and how to connect.
pub(super) struct Endpoint {
    /// The URL as given, for messages.
    url: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    /// Value of the header `authorization`.
    pub(super) authorization: String,
}

/// Hint after an unreadable response over plain TCP.
pub(super) const PERHAPS_TLS: &str = "; if it speaks TLS, expected --endpoint https://HOST:PORT";

/// A connection to an endpoint.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Endpoint {
    /// Reads `--endpoint`, the token and the trusted certificates.
    pub(super) fn new(url: &str, place: &Place) -> Result<Self, CliError> {
        let (tls, host, port) = parse(url).ok_or_else(|| {
            CliError::Usage(format!(
                "--endpoint is \"{url}\"; expected https://HOST:PORT or http://HOST:PORT"
            ))
        })?;
        let token = place.token_file.as_deref().ok_or_else(|| {
            CliError::Usage("--endpoint needs a token: use --token-file FILE or LBCTL_TOKEN_FILE".to_owned())
        })?;
        let text = fs::read_to_string(token).map_err(|error| unreadable(token, &error))?;
        let tls = tls.then(|| connector(&place.ca_file)).transpose()?;
        Ok(Self {
            url: url.to_owned(),
            host,
            port,
            tls,
            authorization: format!("Bearer {}", text.trim()),
        })
    }

    /// Connects. With TLS, the certificate of the server must be valid for the host.
    pub(super) async fn connect(&self) -> Result<Stream, CliError> {
        let failed = |cause: String| CliError::Endpoint {
            url: self.url.clone(),
            cause,
        };
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream =
            connected.map_err(|error| failed(format!("{error}; check that lbd runs and that `[api]` has `listen`")))?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(error.to_string()))?;
        match tls.connect(name, stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            // rustls read the start of a plain response as a TLS record.
            Err(error) if is_no_tls(&error) => Err(failed(format!(
                "the server speaks no TLS; expected http://, on a trusted network only ({error})"
            ))),
            Err(error) => Err(failed(format!(
                "{error}; use --ca-file to name the trusted certificates"
            ))),
        }
    }
}

fn is_no_tls(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType
        ))
    )
}

/// Splits a URL into: whether it uses TLS, host, and port.
fn parse(url: &str) -> Option<(bool, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |host| host.strip_suffix(']'))?;
    let known = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    let host = (!host.is_empty() && host.chars().all(known)).then(|| host.to_owned())?;
    Some((tls, host, port.parse().ok()?))
}

fn connector(roots: &Path) -> Result<TlsConnector, CliError> {
    let bytes = fs::read(roots).map_err(|error| unreadable(roots, &error))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
    if store.is_empty() {
        return Err(CliError::Usage(format!(
            "{} has no certificate in PEM; expected the trusted certificates",
            roots.display()
        )));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| CliError::Usage(error.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Usage(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn endpoints_have_scheme_host_and_port() {
        let host = |tls, host: &str, port| Some((tls, host.to_owned(), port));
        assert_eq!(
            parse("https://lb1.example.net:9440"),
            host(true, "lb1.example.net", 9440)
        );
        assert_eq!(parse("http://[::1]:9440/"), host(false, "::1", 9440));
        for wrong in [
            "lb1:9440",
            "ftp://lb1:1",
            "https://lb1",
            "https://:1",
            "https://lb1:x",
            "https://[::1:1",
            "https://a/b:1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
