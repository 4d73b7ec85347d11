//! Requests that change something: reload, overrides of backends, the end of flows.

use std::{sync::Arc, time::Duration};

use super::{
    Control,
    parameters::Parameters,
    server::{Answer, command, flow_filter},
};
use crate::api::{Flushed, Problem, deadline};
use crate::vrrp;
use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    http::Uri,
    routing::{delete, post},
};
use lb_core::config::BackendId;
use lb_core::{config::MOST_WEIGHT, overrides::Verb, reload::Report};

type Target = Arc<dyn Control>;

/// The routes of this file.
pub(super) fn routes(target: Target) -> Router {
    Router::new()
        .route("/v1/reload", post(reload))
        .route(
            "/v1/services/{service}/backends/{backend}/{verb}",
            post(override_backend),
        )
        .route("/v1/vrrp/{name}/{verb}", post(order_vrrp))
        .route("/v1/flows", delete(flush))
        .with_state(target)
}

async fn reload(State(target): State<Target>, uri: Uri) -> Answer<Report> {
    let parameters = Parameters::read(&uri, &["dry_run"])?;
    let dry_run = parameters.value("dry_run", "true or false")?.unwrap_or(false);
    command(target, move |target| Ok(target.reload(dry_run)?)).await
}

async fn override_backend(
    State(target): State<Target>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    uri: Uri,
) -> Answer<()> {
    let Path((service, backend, verb)) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let verb = verb_of(&verb, &uri)?;
    let id = BackendId { service, backend };
    command(target, move |target| Ok(target.override_backend(id, verb)?)).await
}

async fn order_vrrp(
    State(target): State<Target>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
) -> Answer<()> {
    let Path((name, verb)) = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    Parameters::read(&uri, &[])?;
    command(target, move |target| {
        match verb.as_str() {
            "release" => target.order_vrrp(&name, vrrp::Order::Release)?,
            "take" => target.order_vrrp(&name, vrrp::Order::Take)?,
            "maintain" => target.maintain_vrrp(&name, true)?,
            "resume" => target.maintain_vrrp(&name, false)?,
            other => {
                let sentence = format!(
                    "a virtual router has no verb `{}`; there are: release, take, maintain, resume",
                    other.escape_debug()
                );
                return Err(Problem::not_found(sentence));
            }
        }
        Ok(())
    })
    .await
}

fn verb_of(word: &str, uri: &Uri) -> Result<Verb, Problem> {
    let nothing_else = |verb| Parameters::read(uri, &[]).map(|_| verb);
    match word {
        "drain" => {
            let parameters = Parameters::read(uri, &["deadline"])?;
            let deadline = parameters.text("deadline").map(known_deadline).transpose()?;
            Ok(Verb::Drain { deadline })
        }
        "undrain" => nothing_else(Verb::Undrain),
        "disable" => nothing_else(Verb::Disable),
        "enable" => nothing_else(Verb::Enable),
        "weight" => {
            let parameters = Parameters::read(uri, &["value"])?;
            let value = parameters.number("value", 0..=MOST_WEIGHT)?;
            let missing = || Problem::bad_request(format!("`value` is missing; expected 0 to {MOST_WEIGHT}"));
            value.map(Verb::SetWeight).ok_or_else(missing)
        }
        "reset-weight" => nothing_else(Verb::ResetWeight),
        other => Err(Problem::not_found(format!(
            "a backend has no verb `{}`; there are: drain, undrain, disable, enable, weight, reset-weight",
            other.escape_debug()
        ))),
    }
}

fn known_deadline(text: &str) -> Result<Duration, Problem> {
    deadline(text).ok_or_else(|| {
        let text = text.escape_debug();
        Problem::bad_request(format!(
            "`deadline` is `{text}`; expected a duration such as 5m or 1h 30m"
        ))
    })
}

async fn flush(State(target): State<Target>, uri: Uri) -> Answer<Flushed> {
    let parameters = Parameters::read(&uri, &["service", "backend", "client", "all"])?;
    let filter = flow_filter(&parameters)?;
    let all = parameters.value("all", "true or false")?.unwrap_or(false);
    if filter == Default::default() && !all {
        let sentence = "no flows are chosen; expected `service`, `backend` or `client`, or `all=true`";
        return Err(Problem::bad_request(sentence));
    }
    command(target, move |target| Ok(target.flush(&filter)?)).await
}
