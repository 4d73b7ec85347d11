//! The request that applies the configuration file.

use axum::extract::{Query, State};
use lb_core::reload::Report;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Controller;
use crate::{
    admin::{
        ask::{Answer, change},
        query,
    },
    api::Problem,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReloadQuery {
    /// Show what would change, and change nothing.
    #[serde(default, deserialize_with = "query::optional")]
    dry_run: Option<bool>,
}

/// Applies the changed configuration file. If it has an error, nothing changes.
#[utoipa::path(
    post,
    path = "/v1/reload",
    params(ReloadQuery),
    responses(
        (status = 200, description = "What changed, or would change.", body = Report),
        (status = 422, description = "The file is refused. `diagnostics` has its errors, `fixed` the keys that cannot change.", body = Problem, content_type = "application/problem+json"),
        Problem,
    )
)]
pub(super) async fn reload(State(controller): State<Controller>, Query(query): Query<ReloadQuery>) -> Answer<Report> {
    let dry_run = query.dry_run.unwrap_or(false);
    change(controller.control, move |control| Ok(control.reload(dry_run)?)).await
}
