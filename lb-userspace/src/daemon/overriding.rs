//! What operators decide about backends, carried out; and drains, followed to their ends.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{commands::no_router, controller::Controller, entries::Entries};
use crate::{
    admin::{ControlError, nothing_named},
    events::{Happening, Kind},
    system::wall_clock,
};
use lb_core::config::BackendId;
use lb_core::{
    config::{Backend, Service},
    overrides::{Overrides, Verb, Voided},
    text::duration,
};

/// So many seconds a removed backend stays at least: handshakes that are not in the flow table yet may still find it.
const LEAST_STAY: i64 = 5;
/// For how long it stays as one that is down when the time for its flows is over: silent clients are asked more than once.
const LINGER: SignedDuration = SignedDuration::from_secs(30);

impl Controller {
    /// Carries out what an operator decided about a backend.
    pub(super) fn override_backend(&mut self, id: BackendId, verb: Verb) -> Result<(), ControlError> {
        let now = wall_clock::now();
        let in_force = self.in_force.borrow().clone();
        let (service, backend) = self.known(&id)?;
        if backend.fallback && matches!(verb, Verb::SetWeight(_)) {
            let sentence = format!(
                "{}/{} is a fallback backend, which has no weight",
                id.service, id.backend
            );
            return Err(ControlError::Refused(sentence));
        }
        let mut overrides = Overrides::clone(&in_force.overrides);
        if !overrides.change(&id, verb, now)? {
            return Ok(());
        }
        if matches!(verb, Verb::SetWeight(_) | Verb::ResetWeight) {
            self.is_there_room(&overrides)?;
        }
        // What is not on the disk is not promised.
        crate::system::overrides_file::save(&in_force.config().node.state_dir, &overrides)
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        let set = overrides.of(&id).is_some_and(|own| match verb {
            Verb::Undrain | Verb::Enable => own.intent.is_some(),
            Verb::ResetWeight => own.weight.is_some(),
            _ => true,
        });
        let kind = if set { Kind::OverrideSet } else { Kind::OverrideCleared };
        self.events
            .record(Happening::new(kind, sentence(verb)).of_backend(&id.service, &id.backend));
        if let Verb::Drain { .. } = verb {
            let flows = Entries::read(&self.tables)
                .ok()
                .and_then(|entries| entries.flows(&self.tables, &service, backend.address));
            let cause = match flows.unwrap_or_default() {
                1 => "1 flow goes on".to_owned(),
                flows => format!("{flows} flows go on"),
            };
            self.events
                .record(Happening::new(Kind::DrainStarted, cause).of_backend(&id.service, &id.backend));
        }
        self.in_force.send_modify(|in_force| {
            *in_force = Arc::new(super::InForce {
                overrides: Arc::new(overrides),
                ..super::InForce::clone(in_force)
            });
        });
        tokio::task::block_in_place(|| self.reconcile());
        Ok(())
    }

    /// Keeps this balancer backup of a virtual router and those of its group, or lets it take part as before.
    pub(super) fn maintain(&mut self, name: &str, is_maintained: bool) -> Result<(), ControlError> {
        let in_force = self.in_force.borrow().clone();
        let config = in_force.config();
        let router = config.vrrp.iter().find(|router| router.name == name);
        let router = router.ok_or_else(|| no_router(config, name))?;
        let together = config
            .vrrp
            .iter()
            .filter(|other| other.sync_group_key() == router.sync_group_key());
        let mut overrides = Overrides::clone(&in_force.overrides);
        if !overrides.maintain(together.map(|router| router.name.as_str()), is_maintained) {
            return Ok(());
        }
        crate::system::overrides_file::save(&config.node.state_dir, &overrides)
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.vrrp.maintain(overrides.maintained().clone());
        let kind = if is_maintained {
            Kind::VrrpMaintained
        } else {
            Kind::VrrpResumed
        };
        self.events
            .record(Happening::new(kind, "by an operator").of_router(name, &router.interface));
        self.in_force.send_modify(|in_force| {
            *in_force = Arc::new(super::InForce {
                overrides: Arc::new(overrides),
                ..super::InForce::clone(in_force)
            });
        });
        Ok(())
    }

    /// A backend of the configuration.
    fn known(&self, id: &BackendId) -> Result<(Service, Backend), ControlError> {
        let in_force = self.in_force.borrow();
        let services = &in_force.config().services;
        let service = services.iter().find(|service| service.name == id.service);
        let service = service.ok_or_else(|| {
            let names = services.iter().map(|service| service.name.as_str());
            ControlError::NotFound(nothing_named("service", &id.service, names))
        })?;
        let backend = service.backends.iter().find(|backend| backend.name == id.backend);
        let backend = backend.ok_or_else(|| {
            let name = |backend: &str| format!("{}/{backend}", service.name);
            let names: Vec<_> = service.backends.iter().map(|backend| name(&backend.name)).collect();
            let names = names.iter().map(String::as_str);
            ControlError::NotFound(nothing_named("backend", &name(&id.backend), names))
        })?;
        Ok((service.clone(), backend.clone()))
    }

    /// Refuses weights that need more ring slots than the map has.
    fn is_there_room(&self, overrides: &Overrides) -> Result<(), ControlError> {
        let in_force = self.in_force.borrow().clone();
        let problems = |overrides| {
            self.trial(&in_force.source.config, overrides)
                .map(|plan| plan.problems)
                .map_err(ControlError::Failed)
        };
        let before = problems(&in_force.overrides)?;
        let new: Vec<String> = problems(overrides)?
            .into_iter()
            .filter(|problem| !before.contains(problem))
            .collect();
        if new.is_empty() {
            Ok(())
        } else {
            Err(ControlError::Refused(new.join("; ")))
        }
    }

    /// Whether there are drains or removed backends whose flows are to be watched.
    pub(super) fn is_draining(&self) -> bool {
        let in_force = self.in_force.borrow();
        !in_force.overrides.all_leaving().is_empty() || in_force.overrides.drains().next().is_some()
    }

    /// How long until a deadline changes something.
    pub(super) fn until_deadline(&self) -> Option<std::time::Duration> {
        let now = wall_clock::now();
        let next = self.in_force.borrow().overrides.next_deadline(now)?;
        Some(next.duration_since(now).unsigned_abs())
    }

    /// Looks at how far drains have come, and lets removed backends go whose flows have ended.
    pub(super) fn follow_drains(&mut self, now: Timestamp) {
        if !self.is_draining() {
            return;
        }
        let Ok(entries) = Entries::read(&self.tables) else {
            return;
        };
        let in_force = self.in_force.borrow().clone();
        let service = |name: &str| in_force.config().services.iter().find(|service| service.name == name);
        let mut overrides = Overrides::clone(&in_force.overrides);
        for (id, deadline) in in_force.overrides.drains() {
            let flows = service(&id.service).and_then(|service| {
                let backend = service.backends.iter().find(|backend| backend.name == id.backend)?;
                entries.flows(&self.tables, service, backend.address)
            });
            if let Some(cause) = drain_end(flows.unwrap_or(0), deadline, now, self.started) {
                overrides.end_drain(id.clone());
                self.events
                    .record(Happening::new(Kind::DrainEnded, cause).of_backend(&id.service, &id.backend));
            }
        }
        let gone = overrides.gone(|leaving| {
            let stayed = now.duration_since(leaving.since).as_secs() >= LEAST_STAY;
            let flows = service(&leaving.service)
                .and_then(|service| entries.flows(&self.tables, service, leaving.address))
                .unwrap_or(0);
            leaving.deadline + LINGER <= now || flows == 0 && stayed
        });
        for leaving in &gone {
            let cause = if leaving.deadline <= now {
                "removed from the configuration; the time for its flows is over"
            } else {
                "removed from the configuration; it has no flows any more"
            };
            self.events
                .record(Happening::new(Kind::DrainEnded, cause).of_backend(&leaving.service, &leaving.backend));
        }
        if overrides != *in_force.overrides {
            self.put_overrides(overrides);
        }
    }

    /// Saves again what could not be saved.
    pub(super) fn save_again(&mut self) {
        let in_force = self.in_force.borrow().clone();
        if self.is_unsaved
            && crate::system::overrides_file::save(&in_force.config().node.state_dir, &in_force.overrides).is_ok()
        {
            self.is_unsaved = false;
            tracing::info!("the operator's overrides are saved by now");
        }
    }

    /// Puts overrides into force and saves them; where that fails, it is tried again.
    pub(super) fn put_overrides(&mut self, overrides: Overrides) {
        let in_force = self.in_force.borrow().clone();
        let saved = crate::system::overrides_file::save(&in_force.config().node.state_dir, &overrides);
        self.is_unsaved = saved.is_err();
        if let Err(error) = saved {
            self.events
                .record(Happening::new(Kind::OverridesUnsaved, error.to_string()));
        }
        self.in_force.send_replace(Arc::new(super::InForce {
            overrides: Arc::new(overrides),
            ..super::InForce::clone(&in_force)
        }));
        self.aim();
    }
}

/// Why a drain has come to its end; `None`: it goes on.
fn drain_end(flows: u64, deadline: Option<Timestamp>, now: Timestamp, started: Timestamp) -> Option<String> {
    let reached = match deadline.filter(|deadline| *deadline <= now) {
        None if flows == 0 => return Some("no flows are left".to_owned()),
        None => return None,
        Some(deadline) if deadline <= started => "the deadline was reached while lbd did not run",
        Some(_) => "the deadline is reached",
    };
    Some(match flows {
        0 => format!("{reached}, no flows are left"),
        1 => format!("{reached}, 1 flow is left to the policy of the service"),
        flows => format!("{reached}, {flows} flows are left to the policy of the service"),
    })
}

/// What is told of an override that a configuration makes void.
pub(super) fn cleared(voided: &Voided) -> Happening {
    Happening::new(Kind::OverrideCleared, voided.cause).of_backend(&voided.id.service, &voided.id.backend)
}

fn sentence(verb: Verb) -> String {
    match verb {
        Verb::Drain { deadline: None } => "drain, without a deadline".to_owned(),
        Verb::Drain {
            deadline: Some(deadline),
        } => format!("drain, within {}", duration(deadline)),
        Verb::Undrain => "drain".to_owned(),
        Verb::Disable => "disabled".to_owned(),
        Verb::Enable => "disabled".to_owned(),
        Verb::SetWeight(weight) => format!("weight {weight}"),
        Verb::ResetWeight => "weight".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_for_the_reason_that_it_ends_for() {
        let at = |second| Timestamp::from_second(second).unwrap();
        // Started at 100. Flows, deadline and now, and what is told.
        let given_then: [(u64, Option<i64>, i64, Option<&str>); 7] = [
            (0, None, 101, Some("no flows are left")),
            (2, None, 1000, None),
            (2, Some(200), 199, None),
            (0, Some(200), 199, Some("no flows are left")),
            (
                1,
                Some(200),
                200,
                Some("the deadline is reached, 1 flow is left to the policy of the service"),
            ),
            (0, Some(200), 201, Some("the deadline is reached, no flows are left")),
            (
                0,
                Some(99),
                101,
                Some("the deadline was reached while lbd did not run, no flows are left"),
            ),
        ];
        for (flows, deadline, now, told) in given_then {
            let end = drain_end(flows, deadline.map(at), at(now), at(100));
            assert_eq!(end.as_deref(), told, "{flows} {deadline:?} {now}");
        }
    }
}
