//! Requests that list, count and end flows.

use std::net::IpAddr;

use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Controller;
use crate::{
    admin::{
        ask::{Answer, change, read},
        known::check_filter,
        query::{self, FlowCursor, Number},
    },
    api::{
        FlowCount, FlowFilter, FlowPage, Flushed, Problem,
        limits::{DEFAULT_FLOW_LIMIT, MAX_FLOW_LIMIT},
    },
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only flows of this service.
    #[serde(default, deserialize_with = "query::optional")]
    service: Option<String>,
    /// Only flows of this backend: its name, or ADDRESS:PORT.
    #[serde(default, deserialize_with = "query::optional")]
    backend: Option<String>,
    /// Only flows of the client with this address.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// Continue at the `cursor` of an earlier response.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<String>)]
    after: Option<FlowCursor>,
    /// Most flows in the response.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<u64>, minimum = 1, maximum = 100_000, default = 100)]
    limit: Option<Number<1, MAX_FLOW_LIMIT>>,
}

/// Lists flows.
#[utoipa::path(
    get,
    path = "/v1/flows",
    params(ListQuery),
    responses((status = 200, description = "Some flows, and where the next request continues.", body = FlowPage), Problem)
)]
pub(super) async fn list_flows(
    State(controller): State<Controller>,
    Query(query): Query<ListQuery>,
) -> Answer<FlowPage> {
    let filter = FlowFilter {
        service: query.service,
        backend: query.backend,
        client: query.client,
    };
    let after = query.after.map_or(0, |cursor| cursor.0);
    let limit = query.limit.map_or(DEFAULT_FLOW_LIMIT, |limit| limit.0);
    read(controller.inspect, move |inspect| {
        check_filter(inspect, &filter)?;
        Ok(inspect.flows(&filter, after, limit)?)
    })
    .await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CountQuery {
    /// Only flows of this service.
    #[serde(default, deserialize_with = "query::optional")]
    service: Option<String>,
    /// Only flows of this backend: its name, or ADDRESS:PORT.
    #[serde(default, deserialize_with = "query::optional")]
    backend: Option<String>,
    /// Only flows of the client with this address.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
}

/// Counts flows by phase and by service.
#[utoipa::path(
    get,
    path = "/v1/flows/count",
    params(CountQuery),
    responses((status = 200, description = "The numbers of flows.", body = FlowCount), Problem)
)]
pub(super) async fn count_flows(
    State(controller): State<Controller>,
    Query(query): Query<CountQuery>,
) -> Answer<FlowCount> {
    let filter = FlowFilter {
        service: query.service,
        backend: query.backend,
        client: query.client,
    };
    read(controller.inspect, move |inspect| {
        check_filter(inspect, &filter)?;
        Ok(inspect.count_flows(&filter)?)
    })
    .await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FlushQuery {
    /// Only flows of this service.
    #[serde(default, deserialize_with = "query::optional")]
    service: Option<String>,
    /// Only flows of this backend: its name, or ADDRESS:PORT.
    #[serde(default, deserialize_with = "query::optional")]
    backend: Option<String>,
    /// Only flows of the client with this address.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// End all flows; required if no other parameter chooses some.
    #[serde(default, deserialize_with = "query::optional")]
    all: Option<bool>,
}

/// Ends flows. Connections in `nat` and `dnat` mode are reset at once.
#[utoipa::path(
    delete,
    path = "/v1/flows",
    params(FlushQuery),
    responses((status = 200, description = "The numbers of flows that were ended and that stayed.", body = Flushed), Problem)
)]
pub(super) async fn flush_flows(
    State(controller): State<Controller>,
    Query(query): Query<FlushQuery>,
) -> Answer<Flushed> {
    let filter = FlowFilter {
        service: query.service,
        backend: query.backend,
        client: query.client,
    };
    if filter == FlowFilter::default() && query.all != Some(true) {
        let detail = "no flows are chosen; expected `service`, `backend` or `client`, or `all=true`";
        return Err(Problem::bad_request(detail));
    }
    change(controller.control, move |control| Ok(control.flush(&filter)?)).await
}
