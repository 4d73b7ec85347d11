//! Requests that show the node, its services and backends, and its virtual routers.

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Controller;
use crate::{
    admin::{
        ask::{Answer, read},
        known::known_service,
        query::{self, NoQuery},
    },
    api::{BackendStatus, NodeStatus, Problem, ServiceStatus, VrrpStatus},
};

/// Shows the state of this balancer.
#[utoipa::path(
    get,
    path = "/v1/node",
    responses((status = 200, description = "The node.", body = NodeStatus), Problem)
)]
pub(super) async fn node(State(controller): State<Controller>, _: Query<NoQuery>) -> Answer<NodeStatus> {
    read(controller.inspect, |inspect| Ok(inspect.node()?)).await
}

/// Lists all services.
#[utoipa::path(
    get,
    path = "/v1/services",
    responses((status = 200, description = "The services, in the order of the configuration.", body = Vec<ServiceStatus>), Problem)
)]
pub(super) async fn services(State(controller): State<Controller>, _: Query<NoQuery>) -> Answer<Vec<ServiceStatus>> {
    read(controller.inspect, |inspect| Ok(inspect.services()?)).await
}

/// Shows one service.
#[utoipa::path(
    get,
    path = "/v1/services/{name}",
    params(("name" = String, Path, description = "Name of the service.")),
    responses((status = 200, description = "The service.", body = ServiceStatus), Problem)
)]
pub(super) async fn service(
    State(controller): State<Controller>,
    Path(name): Path<String>,
    _: Query<NoQuery>,
) -> Answer<ServiceStatus> {
    read(controller.inspect, move |inspect| known_service(inspect, &name)).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BackendsQuery {
    /// Only backends of this service.
    #[serde(default, deserialize_with = "query::optional")]
    service: Option<String>,
}

/// Lists backends.
#[utoipa::path(
    get,
    path = "/v1/backends",
    params(BackendsQuery),
    responses((status = 200, description = "The backends, in the order of the configuration.", body = Vec<BackendStatus>), Problem)
)]
pub(super) async fn backends(
    State(controller): State<Controller>,
    Query(query): Query<BackendsQuery>,
) -> Answer<Vec<BackendStatus>> {
    read(controller.inspect, move |inspect| {
        if let Some(name) = &query.service {
            known_service(inspect, name)?;
        }
        Ok(inspect.backends(query.service.as_deref())?)
    })
    .await
}

/// Lists the virtual routers of this balancer.
#[utoipa::path(
    get,
    path = "/v1/vrrp",
    responses((status = 200, description = "The virtual routers, in the order of the configuration.", body = Vec<VrrpStatus>), Problem)
)]
pub(super) async fn vrrp(State(controller): State<Controller>, _: Query<NoQuery>) -> Answer<Vec<VrrpStatus>> {
    read(controller.inspect, |inspect| Ok(inspect.vrrp()?)).await
}
