//! A client of the admin API.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

use super::{
    args::Place,
    endpoint::{Endpoint, PERHAPS_TLS, Stream},
    error::CliError,
};

/// Sends requests to a daemon, over its socket or over TCP.
pub(super) struct Client {
    /// Path of the socket, or the URL of the endpoint for messages.
    socket: PathBuf,
    endpoint: Option<Endpoint>,
}

impl Client {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            endpoint: None,
        }
    }

    /// A client that uses `--endpoint`.
    pub(super) fn remote(place: &Place) -> Result<Self, CliError> {
        let url = place.endpoint.as_deref().unwrap_or_default();
        Ok(Self {
            socket: url.into(),
            endpoint: Some(Endpoint::new(url, place)?),
        })
    }

    /// The response to `GET path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.send(Method::GET, path).await
    }

    /// The response to a request, as JSON.
    pub(super) async fn send<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, CliError> {
        let (status, body) = self.ask(method, path).await?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.garbled(error.to_string()));
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(CliError::Refused(problem)),
            Err(_) => Err(self.garbled(format!("status {status}"))),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), CliError> {
        let exchanged = match &self.endpoint {
            None => {
                let connected = UnixStream::connect(&self.socket).await;
                let stream = connected.map_err(|cause| CliError::Unreachable {
                    path: self.socket.clone(),
                    cause,
                })?;
                exchange(stream, method, path, None).await
            }
            Some(endpoint) => {
                let authorization = Some(endpoint.authorization.as_str());
                match endpoint.connect().await? {
                    Stream::Plain(stream) => exchange(stream, method, path, authorization)
                        .await
                        .map_err(|cause| format!("{cause}{PERHAPS_TLS}").into()),
                    Stream::Tls(stream) => exchange(stream, method, path, authorization).await,
                }
            }
        };
        exchanged.map_err(|cause| self.garbled(cause.to_string()))
    }

    fn garbled(&self, cause: String) -> CliError {
        CliError::Garbled {
            path: self.socket.clone(),
            cause,
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    authorization: Option<&str>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "lbd");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

/// Percent-encodes a name or value for a path or query (RFC 3986, section 2.1).
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_for_paths() {
        assert_eq!(escape("web-1.a_b~"), "web-1.a_b~");
        assert_eq!(escape("[fd00::1]:80/?"), "%5Bfd00%3A%3A1%5D%3A80%2F%3F");
    }
}
