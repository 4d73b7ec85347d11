//! Limits for every request: size and time of its body. Every error becomes a problem.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::api::Problem;

/// Largest body, in bytes.
const BODY_BYTES: usize = 64 * 1024;
/// Longest time for a body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Reads the whole body before the request is handled. A request with a body is refused.
pub(super) async fn read_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let too_large = || {
        let detail = format!("the body of the request is too large; expected at most {BODY_BYTES} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response()
    };
    let declared = head.headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES as u64) {
        return too_large();
    }
    match tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(body)) if body.is_empty() => next.run(Request::from_parts(head, Body::empty())).await,
        // The client expects an effect of the body, and there would be none.
        Ok(Ok(_)) => {
            let detail = "no request takes a body; parameters belong in the query, such as `?dry_run=true`";
            Problem::bad_request(detail).into_response()
        }
        Ok(Err(error)) => {
            let error = error.into_inner();
            if error.is::<http_body_util::LengthLimitError>() {
                return too_large();
            }
            Problem::bad_request(format!("the body of the request cannot be read: {error}")).into_response()
        }
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the body of the request took too long").into_response(),
    }
}

/// Turns every other error into a problem, such as an error of the framework about a query.
pub(super) async fn only_problems(request: Request, next: Next) -> Response {
    const MOST_DETAIL: usize = 4096;
    let response = next.run(request).await;
    let status = response.status();
    let is_problem = |kind: &axum::http::HeaderValue| kind == Problem::CONTENT_TYPE;
    let known = response.headers().get(header::CONTENT_TYPE).is_some_and(is_problem);
    if known || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (head, body) = response.into_parts();
    let text = to_bytes(body, MOST_DETAIL).await.unwrap_or_default();
    let detail = match std::str::from_utf8(&text) {
        Ok(text) if !text.is_empty() => text,
        _ => status.canonical_reason().unwrap_or("the request failed"),
    };
    let mut problem = Problem::new(status, detail).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = head.headers.get(&name) {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}
