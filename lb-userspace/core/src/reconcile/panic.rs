//! Panic mode: whether too few backends of a service are healthy, so that health is ignored. Pure.

use super::Known;
use crate::{
    config::{BackendId, Service},
    health::Verdict,
    overrides::AdminState,
};

/// Whether fewer backends are healthy than `panic_threshold` percent. Backends that an operator
/// took out, backends without weight and fallbacks do not count. Unchecked backends count as
/// healthy.
pub(super) fn panics(service: &Service, known: Known<'_>) -> bool {
    if service.panic_threshold == 0 {
        return false;
    }
    let (mut all, mut healthy) = (0_u64, 0_u64);
    for backend in service.backends.iter().filter(|backend| !backend.fallback) {
        let id = BackendId {
            service: service.name.clone(),
            backend: backend.name.clone(),
        };
        let weight = known.overrides.weight(&id, backend.weight);
        if weight == 0 || known.overrides.admin_state(&id, known.now) != AdminState::Enabled {
            continue;
        }
        all += 1;
        let is_down = backend.health.is_some() && known.verdicts.get(&id) == Some(&Verdict::Down);
        healthy += u64::from(!is_down);
    }
    healthy * 100 < u64::from(service.panic_threshold) * all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use lb_common::BackendState::{self, Down, Draining, Up};

    use super::*;
    use crate::{
        config::Config,
        overrides::{Overrides, Verb},
        reconcile::desired,
    };

    const BACKENDS: [&str; 5] = ["a", "b", "c", "d", "sorry"];

    fn config(threshold: u32) -> Config {
        let text = format!(
            "[node]\nname = \"n\"\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"s\"\naddress = \"192.0.2.1\"\nport = 80\n\
             health = {{ type = \"tcp\", panic_threshold = {threshold} }}\n\
             backend = [{{ name = \"a\", address = \"10.0.0.1\" }}, {{ name = \"b\", address = \"10.0.0.2\" }}, \
                        {{ name = \"c\", address = \"10.0.0.3\" }}, {{ name = \"d\", address = \"10.0.0.4\" }}]\n\
             fallback = [{{ name = \"sorry\", address = \"10.0.0.9\" }}]\n"
        );
        crate::config::parse("lbd.toml", &text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The states of `a` to `d` and `sorry` while the backends of `down` are down.
    fn states(threshold: u32, down: &[&str], verbs: &[(&str, Verb)]) -> (bool, Vec<Option<BackendState>>) {
        let id = |backend: &str| BackendId {
            service: "s".to_owned(),
            backend: backend.to_owned(),
        };
        let verdict = |name: &&str| {
            if down.contains(name) {
                Verdict::Down
            } else {
                Verdict::Up
            }
        };
        let verdicts: BTreeMap<_, _> = BACKENDS.iter().map(|name| (id(name), verdict(name))).collect();
        let mut overrides = Overrides::default();
        for (backend, verb) in verbs {
            overrides.change(&id(backend), *verb, Timestamp::UNIX_EPOCH).unwrap();
        }
        let known = Known {
            overrides: &overrides,
            now: Timestamp::UNIX_EPOCH,
            verdicts: &verdicts,
            returned: &BTreeMap::new(),
            next_hops: &BTreeMap::new(),
        };
        let config = config(threshold);
        let service = desired(&config, known).services.remove(0);
        let states = service.backends.iter().map(|backend| backend.state).collect();
        (panics(&config.services[0], known), states)
    }

    #[test]
    fn health_is_ignored_while_too_few_backends_are_healthy() {
        let all = |state| Some(state);
        for (threshold, down, is_panicking, then) in [
            (0, &["a", "b", "c", "d"][..], false, [Down, Down, Down, Down, Up]),
            (50, &["a", "b"], false, [Down, Down, Up, Up, Up]),
            (50, &["a", "b", "c"], true, [Up, Up, Up, Up, Up]),
            (51, &["a", "b"], true, [Up, Up, Up, Up, Up]),
            (1, &["a", "b", "c"], false, [Down, Down, Down, Up, Up]),
            (1, &["a", "b", "c", "d"], true, [Up, Up, Up, Up, Up]),
            // The fallback does not count, and is not used while it is down.
            (50, &["a", "sorry"], false, [Down, Up, Up, Up, Down]),
            (100, &["a", "sorry"], true, [Up, Up, Up, Up, Down]),
            (100, &[], false, [Up, Up, Up, Up, Up]),
        ] {
            assert_eq!(
                states(threshold, down, &[]),
                (is_panicking, then.map(all).to_vec()),
                "{threshold} {down:?}"
            );
        }
    }

    #[test]
    fn a_backend_that_an_operator_took_out_does_not_count_and_stays_out() {
        let drain = Verb::Drain { deadline: None };
        let verbs = [("a", Verb::Disable), ("b", drain)];
        assert_eq!(
            states(50, &["a", "b", "c"], &verbs),
            (false, [Down, Down, Down, Up, Up].map(Some).to_vec())
        );
        assert_eq!(
            states(51, &["a", "c"], &verbs),
            (true, [Down, Draining, Up, Up, Up].map(Some).to_vec())
        );
    }
}
