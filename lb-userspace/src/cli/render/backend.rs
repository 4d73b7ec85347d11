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

/// The weight in force, and that of the configuration where an operator gave another.
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

/// What is held against a backend, or why it is in its state, and how far the way out of that is.
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
    fn ports_that_a_packet_keeps_and_weights_that_do_not_count_are_not_shown() {
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
    fn a_weight_by_an_operator_shows_beside_that_of_the_configuration() {
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
    fn a_suspect_shows_with_what_is_held_against_it() {
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
