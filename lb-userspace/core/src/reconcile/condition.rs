//! Condition of a service: which backends take its new flows. Pure.

use std::collections::BTreeMap;

use lb_common::BackendState;

use super::{Desired, Known, desired::DesiredService, panic::panics};
use crate::config::Config;

/// Which backends take the new flows of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Unknown: the backends that could take them were not checked yet.
    #[default]
    Unknown,
    /// Healthy backends.
    Healthy,
    /// All backends: too few are healthy, so health is ignored.
    Panic,
    /// The fallback: no other backend is up.
    Fallback,
    /// None: new connections are refused.
    NoBackend,
}

impl Condition {
    /// The word in API and CLI.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Panic => "panic",
            Self::Fallback => "fallback",
            Self::NoBackend => "no-backend",
        }
    }
}

/// The condition of every service of a configuration, by its name.
pub fn conditions(config: &Config, desired: &Desired, known: Known<'_>) -> BTreeMap<String, Condition> {
    let services = config.services.iter().zip(&desired.services);
    services
        .map(|(service, desired)| {
            let condition = if panics(service, known) {
                Condition::Panic
            } else {
                served(desired)
            };
            (service.name.clone(), condition)
        })
        .collect()
}

fn served(service: &DesiredService) -> Condition {
    let has = |fallback: bool, state: Option<BackendState>| {
        let mut backends = service.backends.iter();
        backends.any(|backend| backend.fallback == fallback && backend.state == state)
    };
    // Before the first check of a backend the state of its fallback says nothing either.
    for (fallback, condition) in [(false, Condition::Healthy), (true, Condition::Fallback)] {
        if has(fallback, Some(BackendState::Up)) {
            return condition;
        }
        if has(fallback, None) {
            return Condition::Unknown;
        }
    }
    Condition::NoBackend
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::overrides::Overrides;

    const CONFIG: &str = "[node]\nname = \"n\"\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"s\"\naddress = \"192.0.2.1\"\nport = 80\n\
                          backend = [{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }]\nfallback = [{ address = \"10.0.0.9\" }]\n";

    #[test]
    fn new_flows_go_to_the_first_kind_of_backend_that_is_up() {
        use BackendState::{Down, Draining, Up};
        let config = crate::config::parse("lbd.toml", CONFIG).unwrap();
        let known = Known {
            overrides: &Overrides::default(),
            now: Timestamp::UNIX_EPOCH,
            verdicts: &BTreeMap::new(),
            returned: &BTreeMap::new(),
            next_hops: &BTreeMap::new(),
        };
        let mut desired = super::super::desired(&config, known);
        // States of two backends and of the fallback.
        for (states, condition) in [
            ([Some(Up), Some(Down), Some(Up)], Condition::Healthy),
            ([Some(Up), None, None], Condition::Healthy),
            ([None, Some(Down), Some(Up)], Condition::Unknown),
            ([Some(Draining), Some(Down), Some(Up)], Condition::Fallback),
            ([Some(Down), Some(Down), None], Condition::Unknown),
            ([Some(Down), Some(Draining), Some(Down)], Condition::NoBackend),
        ] {
            for (backend, state) in desired.services[0].backends.iter_mut().zip(states) {
                backend.state = state;
            }
            assert_eq!(conditions(&config, &desired, known)["s"], condition, "{states:?}");
        }
    }
}
