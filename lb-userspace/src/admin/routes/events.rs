//! Requests for events, and for what the balancer would do with a packet.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
};
use lb_core::config::Protocol;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Controller;
use crate::{
    admin::{
        ask::{Answer, read},
        query::{self, Number},
    },
    api::{
        EventPage, Problem,
        limits::{DEFAULT_EVENT_LIMIT, MAX_EVENT_LIMIT, MAX_EVENT_WAIT},
    },
    dataplane::explain::{Explanation, Question},
    events::{Cursor, Start},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Show what happened since an earlier response with this `cursor`.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
    /// Show this number of newest events. Not together with `after`.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 10_000, default = 100)]
    last: Option<Number<0, MAX_EVENT_LIMIT>>,
    /// Most events in the response.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<u64>, minimum = 1, maximum = 10_000, default = 10_000)]
    limit: Option<Number<1, MAX_EVENT_LIMIT>>,
    /// Longest time to wait for an event if there is none yet, in seconds.
    #[serde(default, deserialize_with = "query::optional")]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 60, default = 0)]
    wait: Option<Number<0, { MAX_EVENT_WAIT as usize }>>,
}

/// Lists events, or waits for the next one.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(EventsQuery),
    responses((status = 200, description = "Some events, and where the next request continues.", body = EventPage), Problem)
)]
pub(super) async fn list_events(
    State(controller): State<Controller>,
    Query(query): Query<EventsQuery>,
) -> Answer<EventPage> {
    let from = match (query.after, query.last) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request(
                "the query has `after` and `last`; expected one of them",
            ));
        }
        (Some(cursor), None) => Start::After(cursor),
        (None, Some(Number(0))) => Start::End,
        (None, Some(Number(last))) => Start::Last(last),
        (None, None) => Start::Last(DEFAULT_EVENT_LIMIT),
    };
    let limit = query.limit.map_or(MAX_EVENT_LIMIT, |limit| limit.0);
    let wait = Duration::from_secs(query.wait.map_or(0, |wait| wait.0 as u64));
    let events = controller.control.events();
    Ok(Json(events.page_when_there_is_one(from, limit, wait).await))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainQuery {
    /// Protocol of the packet: `tcp` or `udp`.
    #[serde(deserialize_with = "query::required")]
    #[param(value_type = String)]
    protocol: Protocol,
    /// Source of the packet, such as 192.0.2.1:80 or [2001:db8::1]:80.
    #[serde(deserialize_with = "query::required")]
    #[param(value_type = String)]
    client: SocketAddr,
    /// Destination of the packet, of the same family as `client`.
    #[serde(deserialize_with = "query::required")]
    #[param(value_type = String)]
    address: SocketAddr,
}

/// Shows which backend a packet goes to, and why.
#[utoipa::path(
    get,
    path = "/v1/explain",
    params(ExplainQuery),
    responses((status = 200, description = "What happens to the packet.", body = Explanation), Problem)
)]
pub(super) async fn explain(
    State(controller): State<Controller>,
    Query(query): Query<ExplainQuery>,
) -> Answer<Explanation> {
    let question = Question {
        protocol: query.protocol,
        client: query.client,
        virtual_address: query.address,
    };
    if question.client.is_ipv4() != question.virtual_address.is_ipv4() {
        return Err(Problem::bad_request(
            "`client` and `address` are of different families; expected both IPv4 or both IPv6",
        ));
    }
    read(controller.control, move |control| Ok(control.explain(&question)?)).await
}
