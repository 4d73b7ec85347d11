//! The `grpc` check: the gRPC health service must report `SERVING`.
//!
//! The GRPC Health Checking Protocol (grpc/doc/health-checking.md): "`rpc Check(HealthCheckRequest)
//! returns (HealthCheckResponse)`", over HTTP/2 as PROTOCOL-HTTP2.md says.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::{Endpoint, ProbeFailure, http::USER_AGENT, stream};
use crate::health::probe_resources::ClientTls;
use lb_core::config::GrpcProbe;

/// The largest body of a response, in bytes.
const LARGEST_RESPONSE: usize = 4096;
/// Length of the prefix of a message, in bytes. "Length-Prefixed-Message → Compressed-Flag
/// Message-Length Message".
const PREFIX: usize = 5;
/// Field 1, length-delimited: `string service = 1` of the request.
const SERVICE: u8 = 0x0a;
/// Field 1, varint: `ServingStatus status = 1` of the response.
const STATUS: u8 = 0x08;
/// The names of `ServingStatus`, by their value.
const SERVING_STATUS: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// The value of a healthy service.
const SERVING: u64 = 1;
/// The gRPC status codes that servers return for such a call, and their names.
const CODES: [(&str, &str); 5] = [
    ("5", "NOT_FOUND"),
    ("7", "PERMISSION_DENIED"),
    ("12", "UNIMPLEMENTED"),
    ("14", "UNAVAILABLE"),
    ("16", "UNAUTHENTICATED"),
];

/// Runs the tasks that the HTTP library starts for a connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async move { drop(task.await) });
    }
}

/// Ends these tasks when the check ends. Otherwise a hostile backend could keep a task, and its
/// file descriptor, for ever.
struct AbortOnDrop(Tasks);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Calls `Check` and checks the response.
pub(super) async fn probe(to: &Endpoint, probe: &GrpcProbe, tls: Option<&ClientTls>) -> Result<(), ProbeFailure> {
    let stream = stream::connect(to, probe.tls.as_ref().zip(tls)).await?;
    let failed = |error: &dyn std::error::Error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        ProbeFailure::Grpc(cause)
    };
    let tasks = Tasks::default();
    let _abort = AbortOnDrop(tasks.clone());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(tasks, TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let authority = probe.host.clone().unwrap_or_else(|| to.authority.to_string());
    let request = Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(Bytes::from(request(&probe.service))))
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request);
    let checked = pin!(async {
        let response = response.await.map_err(|error| failed(&error))?;
        let (head, body) = response.into_parts();
        if head.status != 200 {
            return Err(ProbeFailure::Grpc(format!("HTTP status {}", head.status.as_u16())));
        }
        let body = Limited::new(body, LARGEST_RESPONSE).collect().await;
        let body = body.map_err(|error| ProbeFailure::Grpc(error.to_string()))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        check_response(&head.headers, &trailers, &body.to_bytes())
    });
    let mut connection = pin!(connection);
    tokio::select! {
        checked = checked => checked,
        ended = &mut connection => Err(ended.map_or_else(
            |error| failed(&error),
            |()| ProbeFailure::Grpc("the connection was closed before a response".to_owned()),
        )),
    }
}

/// The request in a frame, which asks about a service.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE);
        varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

/// Appends a number as protocol buffers encode it.
fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Checks the gRPC status and the serving status of a response.
fn check_response(head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), ProbeFailure> {
    let find = |name| trailers.get(name).or_else(|| head.get(name));
    let text = |name| find(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => {}
        Some(code) => {
            let word = CODES.iter().find(|(known, _)| *known == code).map(|(_, word)| *word);
            let mut cause = format!("status {code}");
            for part in [word, text("grpc-message").filter(|message| !message.is_empty())]
                .into_iter()
                .flatten()
            {
                cause += &format!(" {part}");
            }
            return Err(ProbeFailure::Grpc(cause));
        }
        None => return Err(ProbeFailure::Grpc("the response has no `grpc-status`".to_owned())),
    }
    match status(body) {
        Some(SERVING) => Ok(()),
        Some(status) => {
            let word = usize::try_from(status).ok().and_then(|index| SERVING_STATUS.get(index));
            Err(ProbeFailure::Grpc(word.map_or_else(
                || format!("serving status {status}"),
                |word| (*word).to_owned(),
            )))
        }
        None => Err(ProbeFailure::Grpc(
            "the response is not a HealthCheckResponse".to_owned(),
        )),
    }
}

/// The serving status of a framed response. A missing field has the value 0 (protocol buffers,
/// "Default Values"). `None`: the response cannot be decoded.
fn status(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let [compressed, length @ ..] = prefix else { return None };
    let length: [u8; 4] = length.try_into().ok()?;
    if *compressed != 0 || message.len() != u32::from_be_bytes(length) as usize {
        return None;
    }
    match message {
        [] => Some(0),
        [STATUS, rest @ ..] => unvarint(rest),
        _ => None,
    }
}

/// Decodes a number of at most nine bytes.
fn unvarint(bytes: &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_service() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(request(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_a_valid_response_yields_a_serving_status() {
        for (body, then) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 3, 8, 0x80, 1], Some(128)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 9, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0], None),
            (&[], None),
        ] {
            assert_eq!(status(body), then, "{body:?}");
        }
    }
}
