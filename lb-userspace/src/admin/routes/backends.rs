//! The request that overrides the state or the weight of a backend.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use lb_core::{
    config::{BackendId, MOST_WEIGHT},
    overrides::Verb,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Controller;
use crate::{
    admin::{
        ask::{Answer, change},
        query::{self, Number},
    },
    api::Problem,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OverrideQuery {
    /// For `drain`: the time after which the remaining flows end as `on_backend_down` says, such as
    /// 5m.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<String>)]
    deadline: Option<Duration>,
    /// For `weight`, and required there: the weight.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 1000)]
    value: Option<Number<0, { MOST_WEIGHT as usize }>>,
}

/// Overrides the state or the weight of a backend.
///
/// `drain`: no new flows, existing flows continue. `undrain`: end the drain. `disable`: treat the
/// backend as down. `enable`: end `disable`. `weight`: override the configured weight.
/// `reset-weight`: use the configured weight.
#[utoipa::path(
    post,
    path = "/v1/services/{service}/backends/{backend}/{verb}",
    params(
        ("service" = String, Path, description = "Name of the service."),
        ("backend" = String, Path, description = "Name of the backend."),
        ("verb" = String, Path, description = "`drain`, `undrain`, `disable`, `enable`, `weight` or `reset-weight`."),
        OverrideQuery,
    ),
    responses(
        (status = 200, description = "Done; the body is `null`.", body = ()),
        (status = 404, description = "There is no such service, backend or verb.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not possible in this state, such as `enable` of a draining backend.", body = Problem, content_type = "application/problem+json"),
        Problem,
    )
)]
pub(super) async fn override_backend(
    State(controller): State<Controller>,
    Path((service, backend, verb)): Path<(String, String, String)>,
    Query(query): Query<OverrideQuery>,
) -> Answer<()> {
    let verb = verb_of(&verb, query)?;
    let id = BackendId { service, backend };
    change(controller.control, move |control| {
        Ok(control.override_backend(id, verb)?)
    })
    .await
}

fn verb_of(word: &str, query: OverrideQuery) -> Result<Verb, Problem> {
    let OverrideQuery { deadline, value } = query;
    if deadline.is_some() && word != "drain" {
        return Err(Problem::bad_request("`deadline` is only for `drain`"));
    }
    if value.is_some() && word != "weight" {
        return Err(Problem::bad_request("`value` is only for `weight`"));
    }
    match word {
        "drain" => Ok(Verb::Drain { deadline }),
        "undrain" => Ok(Verb::Undrain),
        "disable" => Ok(Verb::Disable),
        "enable" => Ok(Verb::Enable),
        "weight" => {
            let missing = || Problem::bad_request(format!("`value` is missing; expected 0 to {MOST_WEIGHT}"));
            let value = value.ok_or_else(missing)?;
            Ok(Verb::SetWeight(value.0 as u32))
        }
        "reset-weight" => Ok(Verb::ResetWeight),
        other => Err(Problem::not_found(format!(
            "a backend has no verb `{}`; there are: drain, undrain, disable, enable, weight, reset-weight",
            other.escape_debug()
        ))),
    }
}
