//! The requests of the API. `routes!` takes path and documentation of a request from the attribute
//! above its function.

mod backends;
mod events;
mod flows;
mod reload;
mod status;
mod vrrp;

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    extract::Query,
    http::{Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{control::Control, inspect::Inspect, openapi::Description, query::NoQuery};
use crate::api::Problem;

/// What answers the requests.
#[derive(Clone)]
pub(super) struct Controller {
    pub(super) inspect: Arc<dyn Inspect>,
    pub(super) control: Arc<dyn Control>,
}

fn requests() -> OpenApiRouter<Controller> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::node))
        .routes(routes!(status::services))
        .routes(routes!(status::service))
        .routes(routes!(status::backends))
        .routes(routes!(status::vrrp))
        .routes(routes!(flows::list_flows, flows::flush_flows))
        .routes(routes!(flows::count_flows))
        .routes(routes!(backends::override_backend))
        .routes(routes!(vrrp::order_vrrp))
        .routes(routes!(reload::reload))
        .routes(routes!(events::list_events))
        .routes(routes!(events::explain))
        .routes(routes!(openapi))
}

/// All requests, served by a controller.
pub(super) fn router(controller: Controller) -> Router {
    let (routes, _) = requests().split_for_parts();
    routes
        .with_state(controller)
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
}

/// The document that describes the API, as JSON.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let document = requests().into_openapi();
    document.to_pretty_json().unwrap_or_default() + "\n"
});

/// Describes this API (OpenAPI 3.1).
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    responses((status = 200, description = "The document.", body = serde_json::Value), Problem)
)]
async fn openapi(_: Query<NoQuery>) -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

async fn no_such_path(uri: Uri) -> Problem {
    static PATHS: LazyLock<String> = LazyLock::new(|| {
        let paths = requests().into_openapi().paths.paths;
        paths.into_keys().collect::<Vec<_>>().join(", ")
    });
    let path = uri.path().escape_debug();
    Problem::not_found(format!("there is no `{path}`; there are: {}", *PATHS))
}

/// Answers OPTIONS too. The router adds the header `allow` to this response.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = format!(
        "{} does not support {method}; the header `allow` names the methods that it supports",
        uri.path()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
}
