//! Requests about the controller's own doings: its events, and what it would do with a packet.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::Uri, routing::get};

use super::{
    Control,
    parameters::Parameters,
    server::{Answer, ask},
};
use crate::api::{
    Problem,
    limits::{DEFAULT_EVENT_LIMIT, MAX_EVENT_LIMIT, MAX_EVENT_WAIT},
};
use crate::{
    api::EventPage,
    dataplane::explain::{Explanation, Question},
    events::Start,
};
use lb_core::config::{Protocol, Word};

type Source = Arc<dyn Control>;

/// The routes of this file.
pub(super) fn routes(source: Source) -> Router {
    Router::new()
        .route("/v1/events", get(events))
        .route("/v1/explain", get(explain))
        .with_state(source)
}

async fn events(State(source): State<Source>, uri: Uri) -> Answer<EventPage> {
    let parameters = Parameters::read(&uri, &["after", "last", "limit", "wait"])?;
    let after = parameters.value("after", "the `cursor` of an earlier answer")?;
    let last = parameters.number("last", 0..=MAX_EVENT_LIMIT)?;
    let from = match (after, last) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request(
                "the query has `after` and `last`; expected one of the two",
            ));
        }
        (Some(cursor), None) => Start::After(cursor),
        (None, Some(0)) => Start::End,
        (None, Some(last)) => Start::Last(last),
        (None, None) => Start::Last(DEFAULT_EVENT_LIMIT),
    };
    let limit = parameters
        .number("limit", 1..=MAX_EVENT_LIMIT)?
        .unwrap_or(MAX_EVENT_LIMIT);
    let wait = parameters.number("wait", 0..=MAX_EVENT_WAIT)?.unwrap_or(0);
    let patience = Duration::from_secs(wait);
    Ok(Json(
        source.events().page_when_there_is_one(from, limit, patience).await,
    ))
}

async fn explain(State(source): State<Source>, uri: Uri) -> Answer<Explanation> {
    let parameters = Parameters::read(&uri, &["protocol", "client", "address"])?;
    let missing = |key: &str, expected: &str| Problem::bad_request(format!("`{key}` is missing; expected {expected}"));
    let word = parameters
        .text("protocol")
        .ok_or_else(|| missing("protocol", PROTOCOL))?;
    let protocol = Protocol::WORDS.iter().find(|(known, _)| *known == word);
    let (_, protocol) = protocol
        .ok_or_else(|| Problem::bad_request(format!("`protocol` is `{}`; expected {PROTOCOL}", word.escape_debug())))?;
    let place =
        |key: &str| -> Result<SocketAddr, Problem> { parameters.value(key, PLACE)?.ok_or_else(|| missing(key, PLACE)) };
    let question = Question {
        protocol: *protocol,
        client: place("client")?,
        virtual_address: place("address")?,
    };
    if question.client.is_ipv4() != question.virtual_address.is_ipv4() {
        return Err(Problem::bad_request(
            "`client` and `address` are of different families; expected both IPv4 or both IPv6",
        ));
    }
    ask(source, move |source| Ok(source.explain(&question)?)).await
}

const PROTOCOL: &str = "tcp or udp";
const PLACE: &str = "an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80";
