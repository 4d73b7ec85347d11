//! Serves the admin API on its socket.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{Method, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::sync::{Semaphore, watch};

use super::{
    Control, Inspect, Listeners, access, changes, control::nothing_named, entrance::Ways, limits, openapi,
    parameters::Parameters, questions,
};
use crate::api::{
    BackendStatus, FlowCount, FlowFilter, FlowPage, NodeStatus, Problem, ServiceStatus, VrrpStatus,
    limits::{DEFAULT_FLOW_LIMIT, MAX_FLOW_LIMIT},
};

/// How long requests may go on after `shutdown`.
const GRACE: Duration = Duration::from_secs(1);

/// Questions that are answered at the same time, and so many orders carried out.
const MOST_AT_ONCE: usize = 4;

type Source = Arc<dyn Inspect>;
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// Serves until `shutdown` is there, and then for a moment more what was asked before. Removes the socket at the end.
pub async fn serve(
    listeners: Listeners,
    source: Arc<dyn Inspect>,
    control: Arc<dyn Control>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (stop, stopped) = watch::channel(false);
    let routes = around(router(source, control), listeners.entrance().ways());
    let serving = listeners.serve(routes, stopped);
    let out_of_grace = async move {
        shutdown.await;
        let _ = stop.send(true);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = serving => {}
        // A client that never ends its request must not keep the controller from ending.
        () = out_of_grace => {}
    }
}

/// Everything that a request passes on its way to its route, from the outside in.
fn around(routes: Router, ways: watch::Receiver<Arc<Ways>>) -> Router {
    routes
        .layer(middleware::from_fn(limits::read_body))
        .layer(middleware::from_fn_with_state(ways, access::authorize))
        .layer(middleware::from_fn(limits::only_problems))
        .layer(middleware::from_fn(log))
}

fn router(source: Source, control: Arc<dyn Control>) -> Router {
    Router::new()
        .route("/v1/node", get(node))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/backends", get(backends))
        .route("/v1/vrrp", get(vrrp))
        .route("/v1/flows", get(flows))
        .route("/v1/flows/count", get(flow_count))
        .route("/v1/openapi.json", get(openapi::document))
        .with_state(source)
        .merge(changes::routes(Arc::clone(&control)))
        .merge(questions::routes(control))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
}

async fn node(State(source): State<Source>, uri: Uri) -> Answer<NodeStatus> {
    Parameters::read(&uri, &[])?;
    ask(source, |source| Ok(source.node()?)).await
}

async fn services(State(source): State<Source>, uri: Uri) -> Answer<Vec<ServiceStatus>> {
    Parameters::read(&uri, &[])?;
    ask(source, |source| Ok(source.services()?)).await
}

async fn service(
    State(source): State<Source>,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Answer<ServiceStatus> {
    let Path(name) = name.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    Parameters::read(&uri, &[])?;
    ask(source, move |source| known_service(source, &name)).await
}

async fn backends(State(source): State<Source>, uri: Uri) -> Answer<Vec<BackendStatus>> {
    let parameters = Parameters::read(&uri, &["service"])?;
    ask(source, move |source| {
        let service = parameters.text("service");
        if let Some(name) = service {
            known_service(source, name)?;
        }
        Ok(source.backends(service)?)
    })
    .await
}

async fn vrrp(State(source): State<Source>, uri: Uri) -> Answer<Vec<VrrpStatus>> {
    Parameters::read(&uri, &[])?;
    ask(source, |source| Ok(source.vrrp()?)).await
}

async fn flows(State(source): State<Source>, uri: Uri) -> Answer<FlowPage> {
    let parameters = Parameters::read(&uri, &["service", "backend", "client", "after", "limit"])?;
    let filter = flow_filter(&parameters)?;
    let limit = parameters
        .number("limit", 1..=MAX_FLOW_LIMIT)?
        .unwrap_or(DEFAULT_FLOW_LIMIT);
    let after = parameters
        .value("after", "the `cursor` of an earlier answer")?
        .unwrap_or(0);
    ask(source, move |source| {
        known(source, &filter)?;
        Ok(source.flows(&filter, after, limit)?)
    })
    .await
}

async fn flow_count(State(source): State<Source>, uri: Uri) -> Answer<FlowCount> {
    let filter = flow_filter(&Parameters::read(&uri, &["service", "backend", "client"])?)?;
    ask(source, move |source| {
        known(source, &filter)?;
        Ok(source.count_flows(&filter)?)
    })
    .await
}

pub(super) fn flow_filter(parameters: &Parameters) -> Result<FlowFilter, Problem> {
    Ok(FlowFilter {
        service: parameters.text("service").map(str::to_owned),
        backend: parameters.text("backend").map(str::to_owned),
        client: parameters.value("client", "an IPv4 or IPv6 address")?,
    })
}

/// Refuses a filter by what is not there.
fn known(source: &dyn Inspect, filter: &FlowFilter) -> Result<(), Problem> {
    if let Some(name) = &filter.service {
        known_service(source, name)?;
    }
    if let Some(name) = &filter.backend {
        known_backend(source, filter.service.as_deref(), name)?;
    }
    Ok(())
}

/// Puts a question to the controller, which may block, on a thread that is for that.
pub(super) async fn ask<S: Send + Sync + ?Sized + 'static, T: Send + 'static>(
    source: Arc<S>,
    question: impl FnOnce(&S) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    static TURNS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);
    answer(&TURNS, source, question).await
}

/// As [`ask`], for what changes something: whoever may do that does not wait for those who only ask.
pub(super) async fn command<S: Send + Sync + ?Sized + 'static, T: Send + 'static>(
    source: Arc<S>,
    order: impl FnOnce(&S) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    static TURNS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);
    answer(&TURNS, source, order).await
}

async fn answer<S: Send + Sync + ?Sized + 'static, T: Send + 'static>(
    turns: &Semaphore,
    source: Arc<S>,
    question: impl FnOnce(&S) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    // However many ask, the controller's own work finds a processor.
    let _turn = turns.acquire().await;
    match tokio::task::spawn_blocking(move || question(&*source)).await {
        Ok(answer) => answer.map(Json),
        Err(error) => Err(Problem::internal(format!("the request could not be handled: {error}"))),
    }
}

fn known_service(source: &dyn Inspect, name: &str) -> Result<ServiceStatus, Problem> {
    if let Some(found) = source.service(name)? {
        return Ok(found);
    }
    let services = source.services()?;
    let names = services.iter().map(|service| service.name.as_str());
    Err(Problem::not_found(nothing_named("service", name, names)))
}

fn known_backend(source: &dyn Inspect, service: Option<&str>, name: &str) -> Result<(), Problem> {
    // Flows can outlive the configuration of their backend, so an address need not be known.
    if name.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let backends = source.backends(service)?;
    if backends.iter().any(|backend| backend.name == name) {
        return Ok(());
    }
    let names = backends.iter().map(|backend| backend.name.as_str());
    Err(Problem::not_found(nothing_named("backend", name, names)))
}

async fn no_such_path(uri: Uri) -> Problem {
    let path = uri.path().escape_debug();
    Problem::not_found(format!("there is no `{path}`; there are: {}", openapi::paths()))
}

/// Answers OPTIONS too: the router adds `allow` to what is answered here.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = format!(
        "{} does not take {method}; the header `allow` says what it takes",
        uri.path()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
}

async fn log(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    tracing::debug!(%method, %uri, status = response.status().as_u16(), "admin request");
    response
}
