//! Refuses names of services and backends that do not exist.

use std::net::SocketAddr;

use super::{control::nothing_named, inspect::Inspect};
use crate::api::{FlowFilter, Problem, ServiceStatus};

/// The service with this name.
pub(super) fn known_service(inspect: &dyn Inspect, name: &str) -> Result<ServiceStatus, Problem> {
    if let Some(found) = inspect.service(name)? {
        return Ok(found);
    }
    let services = inspect.services()?;
    let names = services.iter().map(|service| service.name.as_str());
    Err(Problem::not_found(nothing_named("service", name, names)))
}

/// Refuses a filter with a name that does not exist.
pub(super) fn check_filter(inspect: &dyn Inspect, filter: &FlowFilter) -> Result<(), Problem> {
    if let Some(name) = &filter.service {
        known_service(inspect, name)?;
    }
    if let Some(name) = &filter.backend {
        known_backend(inspect, filter.service.as_deref(), name)?;
    }
    Ok(())
}

fn known_backend(inspect: &dyn Inspect, service: Option<&str>, name: &str) -> Result<(), Problem> {
    // An address need not be known: flows can outlive their backend in the configuration.
    if name.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let backends = inspect.backends(service)?;
    if backends.iter().any(|backend| backend.name == name) {
        return Ok(());
    }
    let names = backends.iter().map(|backend| backend.name.as_str());
    Err(Problem::not_found(nothing_named("backend", name, names)))
}
