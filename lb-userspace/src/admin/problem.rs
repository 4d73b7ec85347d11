//! Turns errors into HTTP responses with problem details (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

use super::{control::ControlError, inspect::InspectError};
use crate::api::Problem;
use lb_core::reload::ReloadError;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let content_type = HeaderValue::from_static(Self::CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }
}

impl From<InspectError> for Problem {
    fn from(error: InspectError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let detail = error.to_string();
        match error {
            ControlError::NotFound(_) => Self::not_found(detail),
            ControlError::Refused(_) => Self::new(StatusCode::CONFLICT, detail),
            ControlError::Failed(_) => Self::internal(detail),
            ControlError::Reload(error) => {
                let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
                match error {
                    ReloadError::Config(error) => problem.diagnostics = error.diagnostics().into(),
                    ReloadError::Fixed(fixed) => problem.fixed = fixed.into(),
                    ReloadError::DoesNotFit(_)
                    | ReloadError::Slow(_)
                    | ReloadError::Unsaved(_)
                    | ReloadError::Interface(_)
                    | ReloadError::Api(_)
                    | ReloadError::Maps(_) => {}
                }
                problem
            }
        }
    }
}
