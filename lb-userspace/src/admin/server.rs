//! Serves the admin API until the daemon stops.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use tokio::sync::watch;

use super::{
    access_rules::AccessRules,
    authorize::authorize,
    control::Control,
    inspect::Inspect,
    listeners::Listeners,
    request_limits,
    routes::{self, Controller},
};

/// Longest time that open requests get after `shutdown`.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until `shutdown` completes, and finishes open requests for up to one second after that.
/// Removes the socket at the end.
pub async fn serve(
    listeners: Listeners,
    inspect: Arc<dyn Inspect>,
    control: Arc<dyn Control>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (stop, stopped) = watch::channel(false);
    let routes = routes::router(Controller { inspect, control });
    let routes = with_layers(routes, listeners.rules().rules());
    let serving = listeners.serve(routes, stopped);
    let out_of_grace = async move {
        shutdown.await;
        let _ = stop.send(true);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = serving => {}
        // A client that never ends its request must not keep the daemon from stopping.
        () = out_of_grace => {}
    }
}

/// Adds the layers that a request passes before its route. The last one here is the outermost.
fn with_layers(routes: Router, rules: watch::Receiver<Arc<AccessRules>>) -> Router {
    routes
        .layer(middleware::from_fn(request_limits::read_body))
        .layer(middleware::from_fn_with_state(rules, authorize))
        .layer(middleware::from_fn(request_limits::only_problems))
        .layer(middleware::from_fn(log))
}

async fn log(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    tracing::debug!(%method, %uri, status = response.status().as_u16(), "admin request");
    response
}
