//! Is an HTTP/1.1 request answered as expected?

use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, header};
use hyper_util::rt::TokioIo;

use super::{
    Place, ProbeFailure,
    stream::{self, Stream},
};
use crate::health::means::ClientTls;
use lb_core::config::{HttpProbe, Pattern};

/// The largest head of a response that is read, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;
/// How much of a body is read, in bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// How checks call themselves.
pub(super) const USER_AGENT: &str = concat!("lbd/", env!("CARGO_PKG_VERSION"));

/// Asks, and looks at the head of the response, and at its body where that matters.
pub(super) async fn probe(to: &Place, probe: &HttpProbe, tls: Option<&ClientTls>) -> Result<(), ProbeFailure> {
    let stream = stream::connect(to, probe.tls.as_ref().zip(tls)).await?;
    exchange(stream, to, probe).await.map_err(|failure| match failure {
        Failure::Answer(failure) => failure,
        failure => ProbeFailure::Http(describe(&failure)),
    })
}

async fn exchange(stream: Box<dyn Stream>, to: &Place, probe: &HttpProbe) -> Result<(), Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let host = probe.host.clone().unwrap_or_else(|| to.name.to_string());
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
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?);
    let mut judged = pin!(async {
        let response = answer.await?;
        judge(response, probe).await
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        judged = &mut judged => judged,
        // The connection only works while it is waited for; its end shows in the answer.
        ended = &mut connection => {
            ended?;
            judged.await
        }
    }
}

async fn judge(response: Response<Incoming>, probe: &HttpProbe) -> Result<(), Failure> {
    let status = response.status().as_u16();
    if !probe.status.iter().any(|(low, high)| (*low..=*high).contains(&status)) {
        return Err(Failure::Answer(ProbeFailure::Status {
            status,
            expected: expected(&probe.status),
        }));
    }
    match &probe.body {
        Some(pattern) => has(response.into_body(), pattern).await,
        None => Ok(()),
    }
}

/// Whether the body has the pattern in it. It is read to its end, or to [`LARGEST_BODY`]: a pattern may be about the end, and a
/// body that breaks off is no answer.
async fn has(mut body: Incoming, pattern: &Pattern) -> Result<(), Failure> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = LARGEST_BODY - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if read.len() == LARGEST_BODY {
            break;
        }
    }
    if pattern.is_in(&read) {
        return Ok(());
    }
    Err(Failure::Answer(ProbeFailure::Text {
        what: "body",
        pattern: pattern.clone(),
        length: read.len(),
    }))
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    #[error(transparent)]
    Answer(ProbeFailure),
}

fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Hyper(error) if error.is_incomplete_message() => "the connection was closed before it".to_owned(),
        Failure::Hyper(error) if error.is_parse_too_large() => format!("its head is longer than {LARGEST_HEAD} bytes"),
        Failure::Hyper(error) => match std::error::Error::source(error) {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        },
        failure => failure.to_string(),
    }
}

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
