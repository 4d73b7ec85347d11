//! `lbctl service`

use std::net::SocketAddr;

use super::table::{Column, table};
use crate::api::ServiceStatus;

pub(in crate::cli) fn services(services: &[ServiceStatus]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("service", false),
        ("address", false),
        ("protocol", false),
        ("mode", false),
        ("scheduler", false),
        ("condition", false),
        ("up", true),
        ("active", true),
        ("embryonic", true),
        ("total", true),
    ];
    table(
        COLUMNS,
        services.iter().map(|service| {
            vec![
                service.name.clone(),
                front(service),
                service.protocol.clone(),
                service.mode.clone(),
                service.scheduler.clone(),
                service.condition.clone(),
                format!("{}/{}", service.backends_up, service.backends_total),
                service.active.to_string(),
                service.embryonic.to_string(),
                service.total.to_string(),
            ]
        }),
    )
}

/// Address and port, or ports.
fn front(service: &ServiceStatus) -> String {
    let at = SocketAddr::new(service.address, service.port);
    if service.last_port > service.port {
        format!("{at}-{}", service.last_port)
    } else {
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::services;
    use crate::api::samples;

    #[test]
    fn a_service_with_several_ports_shows_first_and_last() {
        let mut range = samples::services().remove(0);
        range.last_port = 99;
        assert!(services(&[range]).contains(" 192.0.2.10:80-99 "));
    }
}
