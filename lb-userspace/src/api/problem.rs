//! Errors of the API as problem details (RFC 9457).

use hyper::StatusCode;
use lb_core::{config::Diagnostic, reload::FixedKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// URI that names the type of problem; always `about:blank`, so the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short name of the type of problem: the phrase of the HTTP status.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong with this request, and what was expected.
    pub detail: String,
    /// Errors in the configuration file. Only a refused reload has this field.
    #[serde(skip_serializing_if = "<[_]>::is_empty", default)]
    pub diagnostics: Box<[Diagnostic]>,
    /// Keys whose new value cannot be applied while `lbd` runs. Only a refused reload has this
    /// field.
    #[serde(skip_serializing_if = "<[_]>::is_empty", default)]
    pub fixed: Box<[FixedKey]>,
}

impl Problem {
    /// Media type of a problem.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem of this HTTP status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            // RFC 9457, section 4.2.1: "the problem has no additional semantics beyond that of the
            // HTTP status code", and then "the 'title' SHOULD be the same as the recommended HTTP
            // status phrase for that code".
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            diagnostics: Box::default(),
            fixed: Box::default(),
        }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: what the request names does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 500: the controller failed.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}
