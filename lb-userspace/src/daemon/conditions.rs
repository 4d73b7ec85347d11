//! What is told when the condition of a service changes. Pure.

use std::collections::BTreeMap;

use crate::events::{Happening, Kind};
use lb_core::reconcile::Condition;

/// The condition of every service, by its name.
pub(super) type Conditions = BTreeMap<String, Condition>;

/// Takes over new conditions and says what happened. Where nobody knows yet, what was known before goes on.
pub(super) fn take(conditions: &mut Conditions, mut new: Conditions) -> Vec<Happening> {
    let mut told = Vec::new();
    let mut tell = |service: &str, happened: Option<(Kind, &str)>| {
        told.extend(happened.map(|(kind, cause)| Happening::new(kind, cause).of_service(service)));
    };
    for (service, condition) in &mut new {
        let before = conditions.remove(service).unwrap_or_default();
        if *condition == Condition::Unknown {
            *condition = before;
        }
        if *condition != before {
            tell(service, ended(before));
            tell(service, begun(*condition));
        }
    }
    for (service, before) in &*conditions {
        let gone = "the service is not in the configuration any more";
        tell(service, ended(*before).map(|(kind, _)| (kind, gone)));
    }
    *conditions = new;
    told
}

fn begun(condition: Condition) -> Option<(Kind, &'static str)> {
    match condition {
        Condition::Unknown | Condition::Well => None,
        Condition::Panic => Some((
            Kind::PanicStarted,
            "fewer backends are well than `panic_threshold`; all of them take packets",
        )),
        Condition::Fallback => Some((
            Kind::FallbackStarted,
            "no backend is up; new connections go to the fallback",
        )),
        Condition::Unserved => Some((Kind::ServiceDown, "no backend is up; new connections are refused")),
    }
}

fn ended(condition: Condition) -> Option<(Kind, &'static str)> {
    match condition {
        Condition::Unknown | Condition::Well => None,
        Condition::Panic => Some((
            Kind::PanicEnded,
            "health is heeded; backends that are not well take no packets",
        )),
        Condition::Fallback => Some((Kind::FallbackEnded, "the fallback takes no new connections any more")),
        Condition::Unserved => Some((Kind::ServiceUp, "new connections are taken again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_told_before_what_begins_and_once() {
        use Condition::{Fallback, Panic, Unknown, Unserved, Well};
        let mut conditions = Conditions::new();
        for (new, kinds) in [
            (Some(Unknown), &[][..]),
            (Some(Well), &[]),
            (Some(Fallback), &[Kind::FallbackStarted]),
            (Some(Fallback), &[]),
            // A reload gives it backends that were not checked yet.
            (Some(Unknown), &[]),
            (Some(Unserved), &[Kind::FallbackEnded, Kind::ServiceDown]),
            (Some(Panic), &[Kind::ServiceUp, Kind::PanicStarted]),
            (Some(Well), &[Kind::PanicEnded]),
            (Some(Unserved), &[Kind::ServiceDown]),
            (None, &[Kind::ServiceUp]),
        ] {
            let services = new.map(|condition| ("web".to_owned(), condition));
            let told = take(&mut conditions, services.into_iter().collect());
            let told: Vec<Kind> = told.iter().map(Happening::kind).collect();
            assert_eq!(told, kinds, "{new:?}");
        }
    }
}
