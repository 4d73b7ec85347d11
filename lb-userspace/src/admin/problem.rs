//! Errors of the API as problem details (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use lb_core::{config::Diagnostic, reload::FixedKey};

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// What is wrong in a configuration file; not there in other problems.
    #[serde(skip_serializing_if = "<[_]>::is_empty", default)]
    pub diagnostics: Box<[Diagnostic]>,
    /// What of a configuration file cannot be put into force; not there in other problems.
    #[serde(skip_serializing_if = "<[_]>::is_empty", default)]
    pub fixed: Box<[FixedKey]>,
}

impl Problem {
    /// The media type of problems.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            // RFC 9457, section 4.2.1: "the problem has no additional semantics beyond that of the HTTP status code",
            // and then "the 'title' SHOULD be the same as the recommended HTTP status phrase for that code".
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            diagnostics: Box::default(),
            fixed: Box::default(),
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let content_type = HeaderValue::from_static(Self::CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }
}
