//! The `http` and `https` checks: the response to an HTTP/1.1 request must be as expected.

use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, header};
use hyper_util::rt::TokioIo;

use super::{
    Endpoint, ProbeFailure,
    stream::{self, Stream},
};
use crate::health::probe_resources::ClientTls;
use lb_core::config::{HttpProbe, Pattern};

/// The largest status line and headers of a response, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;
/// How much of a body is searched, in bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// The User-Agent header of checks.
pub(super) const USER_AGENT: &str = concat!("lbd/", env!("CARGO_PKG_VERSION"));

/// Sends the request and checks the status of the response, and its body if configured.
pub(super) async fn probe(to: &Endpoint, probe: &HttpProbe, tls: Option<&ClientTls>) -> Result<(), ProbeFailure> {
    let stream = stream::connect(to, probe.tls.as_ref().zip(tls)).await?;
    exchange(stream, to, probe).await.map_err(|failure| match failure {
        Failure::Unexpected(failure) => failure,
        failure => ProbeFailure::Http(describe(&failure)),
    })
}

async fn exchange(stream: Box<dyn Stream>, to: &Endpoint, probe: &HttpProbe) -> Result<(), Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let host = probe.host.clone().unwrap_or_else(|| to.authority.to_string());
    let mut request = Request::builder()
        .method(probe.method.as_str())
        .uri(probe.path.as_str())
        .header(header::HOST, host)
        .header(header::CONNECTION, "close");
    if !probe.headers.contains_key("user-agent") {
        request = request.header(header::USER_AGENT, USER_AGENT);
    }
    for (name, value) in &probe.headers {
        request = request.header(name.as_str(), value.as_str());
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?);
    let mut checked = pin!(async { check_response(response.await?, probe).await });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        checked = &mut checked => checked,
        // The connection makes progress only while it is polled. Its end shows in the response.
        ended = &mut connection => {
            ended?;
            checked.await
        }
    }
}

async fn check_response(response: Response<Incoming>, probe: &HttpProbe) -> Result<(), Failure> {
    let status = response.status().as_u16();
    if !probe.status.iter().any(|(low, high)| (*low..=*high).contains(&status)) {
        return Err(Failure::Unexpected(ProbeFailure::Status {
            status,
            expected: expected(&probe.status),
        }));
    }
    match &probe.body {
        Some(pattern) => check_body(response.into_body(), pattern).await,
        None => Ok(()),
    }
}

/// Searches the body for the pattern. The body is read to its end or to [`LARGEST_BODY`], even if
/// the pattern was found before: an expression may match the end, and an incomplete body is a
/// failure.
async fn check_body(mut body: Incoming, pattern: &Pattern) -> Result<(), Failure> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let left = LARGEST_BODY - read.len();
        read.extend_from_slice(&data[..data.len().min(left)]);
        if read.len() == LARGEST_BODY {
            break;
        }
    }
    if pattern.is_in(&read) {
        return Ok(());
    }
    Err(Failure::Unexpected(ProbeFailure::Text {
        what: "body",
        pattern: pattern.clone(),
        length: read.len(),
    }))
}

/// Why there is no expected response.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    #[error(transparent)]
    Unexpected(ProbeFailure),
}

/// The cause of a failure, without the words of the library around it.
fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Hyper(error) if error.is_incomplete_message() => {
            "the connection was closed before the end of the response".to_owned()
        }
        Failure::Hyper(error) if error.is_parse_too_large() => {
            format!("its headers are longer than {LARGEST_HEAD} bytes")
        }
        Failure::Hyper(error) => match std::error::Error::source(error) {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        },
        failure => failure.to_string(),
    }
}

/// The expected status codes, as in the configuration.
fn expected(ranges: &[(u16, u16)]) -> String {
    let one = |(low, high): &(u16, u16)| {
        if low == high {
            low.to_string()
        } else {
            format!("{low}-{high}")
        }
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}
