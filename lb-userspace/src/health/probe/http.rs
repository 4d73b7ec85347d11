//! Is an HTTP/1.1 request answered with an expected status?

use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, body::Incoming, header};
use hyper_util::rt::TokioIo;

use super::ProbeFailure;
use crate::config::HttpProbe;

/// The largest head of a response that is read, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;

/// Asks, and looks at the head of the response.
pub(super) async fn probe(address: SocketAddr, probe: &HttpProbe) -> Result<(), ProbeFailure> {
    let stream = super::tcp::connect(address).await?;
    let response = ask(stream, address, probe).await.map_err(|error| ProbeFailure::Http(describe(&error)))?;
    let status = response.status().as_u16();
    if probe.status.iter().any(|(low, high)| (*low..=*high).contains(&status)) {
        return Ok(());
    }
    Err(ProbeFailure::Status { status, expected: expected(&probe.status) })
}

async fn ask(
    stream: tokio::net::TcpStream,
    address: SocketAddr,
    probe: &HttpProbe,
) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let host = probe.host.clone().unwrap_or_else(|| address.to_string());
    let request = Request::builder()
        .method(probe.method.as_str())
        .uri(probe.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("lbd/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    loop {
        tokio::select! {
            biased;
            response = &mut answer => return Ok(response?),
            // The connection only works while it is waited for; its end shows in the answer.
            ended = &mut connection => {
                ended?;
                return Ok(answer.await?);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
}

fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Hyper(error) if error.is_incomplete_message() => "the connection was closed before it".to_owned(),
        Failure::Hyper(error) if error.is_parse_too_large() => format!("its head is longer than {LARGEST_HEAD} bytes"),
        Failure::Hyper(error) => match std::error::Error::source(error) {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        },
        Failure::Request(error) => error.to_string(),
    }
}

fn expected(ranges: &[(u16, u16)]) -> String {
    let one = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}
