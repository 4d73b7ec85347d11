//! `lbctl backend`

use super::table::{Column, bytes, table};
use crate::api::BackendStatus;

pub(in crate::cli) fn backends(backends: &[BackendStatus]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("service", false),
        ("backend", false),
        ("address", false),
        ("weight", true),
        ("state", false),
        ("active", true),
        ("total", true),
        ("to worker", true),
        ("to client", true),
        ("cause", false),
    ];
    table(
        COLUMNS,
        backends.iter().map(|backend| {
            let problem = backend
                .next_hop_problem
                .as_ref()
                .map(|problem| format!("; next hop: {problem}"));
            vec![
                backend.service.clone(),
                backend.name.clone(),
                match backend.address.port() {
                    0 => backend.address.ip().to_string(),
                    _ => backend.address.to_string(),
                },
                weight(backend),
                state(backend),
                backend.active.to_string(),
                backend.total.to_string(),
                bytes(backend.to_worker_bytes),
                bytes(backend.to_client_bytes),
                format!("{}{}", cause(backend), problem.unwrap_or_default()),
            ]
        }),
    )
}

/// The weight in force, followed by the configured one if an operator overrode it.
fn weight(backend: &BackendStatus) -> String {
    let overridden = backend.overridden.as_ref().and_then(|own| own.weight);
    match overridden {
        _ if backend.fallback => "fallback".to_owned(),
        Some(weight) => format!("{weight} ({})", backend.configured_weight),
        None => backend.weight.to_string(),
    }
}

fn suspicion(backend: &BackendStatus) -> Option<&String> {
    backend.health.as_ref()?.suspect.as_ref()
}

/// The state of a backend, and whether it is suspect.
fn state(backend: &BackendStatus) -> String {
    match suspicion(backend) {
        Some(_) => format!("{}, suspect", backend.state),
        None => backend.state.clone(),
    }
}

/// Why a backend is suspect or else in its state, and the progress of checks towards another state.
fn cause(backend: &BackendStatus) -> String {
    let cause = suspicion(backend).unwrap_or(&backend.cause);
    match backend.health.as_ref().and_then(|health| health.progress.as_ref()) {
        Some(progress) => format!("{cause}; since then {progress}"),
        None => cause.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::backends;
    use crate::api::{OverrideStatus, samples};

    #[test]
    fn a_kept_port_and_the_weight_of_a_fallback_are_not_shown() {
        let mut fallback = samples::backends().remove(0);
        fallback.fallback = true;
        fallback.address.set_port(0);
        let shown = backends(&[fallback]);
        assert!(
            shown.contains(" 198.51.100.1  ") && shown.contains(" fallback "),
            "{shown}"
        );
    }

    #[test]
    fn an_overridden_weight_shows_beside_the_configured_one() {
        let mut backend = samples::backends().remove(0);
        (backend.weight, backend.configured_weight) = (7, 1);
        backend.overridden = Some(OverrideStatus {
            intent: None,
            since: None,
            deadline: None,
            seconds_left: None,
            weight: Some(7),
        });
        let shown = backends(&[backend]);
        assert!(shown.contains(" 7 (1)  "), "{shown}");
    }

    #[test]
    fn a_suspect_backend_shows_the_reason() {
        let mut suspect = samples::backends().remove(0);
        let why = "3 SYNs in a row were refused".to_owned();
        suspect.health.as_mut().unwrap().suspect = Some(why.clone());
        let shown = backends(&[suspect]);
        assert!(
            shown.contains(" up, suspect ") && shown.trim_end().ends_with(&why),
            "{shown}"
        );
    }
}
