//! Events for changes of the condition of a service. Pure.

use std::collections::BTreeMap;

use crate::events::{Happening, Kind};
use lb_core::reconcile::Condition;

/// The condition of every service, by its name.
pub(in crate::daemon) type Conditions = BTreeMap<String, Condition>;

/// Replaces the conditions by new ones, and returns the events of what changed. A service whose
/// condition is unknown keeps its former one.
pub(super) fn update(conditions: &mut Conditions, mut new: Conditions) -> Vec<Happening> {
    let mut events = Vec::new();
    let mut record = |service: &str, event: Option<(Kind, &str)>| {
        events.extend(event.map(|(kind, cause)| Happening::new(kind, cause).of_service(service)));
    };
    for (service, condition) in &mut new {
        let before = conditions.remove(service).unwrap_or_default();
        if *condition == Condition::Unknown {
            *condition = before;
        }
        if *condition != before {
            record(service, ended(before));
            record(service, begun(*condition));
        }
    }
    for (service, before) in &*conditions {
        let removed = "the service was removed from the configuration";
        record(service, ended(*before).map(|(kind, _)| (kind, removed)));
    }
    *conditions = new;
    events
}

fn begun(condition: Condition) -> Option<(Kind, &'static str)> {
    match condition {
        Condition::Unknown | Condition::Healthy => None,
        Condition::Panic => Some((
            Kind::PanicStarted,
            "fewer healthy backends than `panic_threshold`: health is ignored and all backends take packets",
        )),
        Condition::Fallback => Some((
            Kind::FallbackStarted,
            "no backend is up; new connections go to the fallback",
        )),
        Condition::NoBackend => Some((Kind::ServiceDown, "no backend is up; new connections are refused")),
    }
}

fn ended(condition: Condition) -> Option<(Kind, &'static str)> {
    match condition {
        Condition::Unknown | Condition::Healthy => None,
        Condition::Panic => Some((
            Kind::PanicEnded,
            "enough backends are healthy: backends that are down take no packets",
        )),
        Condition::Fallback => Some((Kind::FallbackEnded, "the fallback takes no new connections")),
        Condition::NoBackend => Some((Kind::ServiceUp, "new connections are accepted again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_condition_is_recorded_before_the_next_one_and_once() {
        use Condition::{Fallback, Healthy, NoBackend, Panic, Unknown};
        let mut conditions = Conditions::new();
        for (new, kinds) in [
            (Some(Unknown), &[][..]),
            (Some(Healthy), &[]),
            (Some(Fallback), &[Kind::FallbackStarted]),
            (Some(Fallback), &[]),
            // A reload adds backends that are not checked yet.
            (Some(Unknown), &[]),
            (Some(NoBackend), &[Kind::FallbackEnded, Kind::ServiceDown]),
            (Some(Panic), &[Kind::ServiceUp, Kind::PanicStarted]),
            (Some(Healthy), &[Kind::PanicEnded]),
            (Some(NoBackend), &[Kind::ServiceDown]),
            (None, &[Kind::ServiceUp]),
        ] {
            let services = new.map(|condition| ("web".to_owned(), condition));
            let events = update(&mut conditions, services.into_iter().collect());
            let events: Vec<Kind> = events.iter().map(Happening::kind).collect();
            assert_eq!(events, kinds, "{new:?}");
        }
    }
}
