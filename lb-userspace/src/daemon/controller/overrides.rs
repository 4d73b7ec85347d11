//! Overrides: carries out what operators decide about backends and virtual routers.

use std::sync::Arc;

use super::{Controller, commands::no_router};
use crate::{
    admin::{ControlError, nothing_named},
    daemon::{ActiveConfig, map_entries::MapEntries},
    events::{Happening, Kind},
    system::{overrides_file, wall_clock},
};
use lb_core::{
    config::{Backend, BackendId, Service},
    overrides::{Overrides, Verb, Voided},
    text::duration,
};

impl Controller {
    /// Carries out an override of a backend.
    pub(super) fn override_backend(&mut self, id: BackendId, verb: Verb) -> Result<(), ControlError> {
        let now = wall_clock::now();
        let active = self.active.borrow().clone();
        let (service, backend) = self.known(&id)?;
        if backend.fallback && matches!(verb, Verb::SetWeight(_)) {
            let sentence = format!("{}/{} is a fallback backend: it has no weight", id.service, id.backend);
            return Err(ControlError::Refused(sentence));
        }
        let mut overrides = Overrides::clone(&active.overrides);
        if !overrides.change(&id, verb, now)? {
            return Ok(());
        }
        if matches!(verb, Verb::SetWeight(_) | Verb::ResetWeight) {
            self.check_ring_capacity(&overrides)?;
        }
        // Saved before it is confirmed: a confirmed override survives a restart.
        overrides_file::save(&active.config().node.state_dir, &overrides)
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
            self.record_drain(&id, &service, &backend);
        }
        self.activate(overrides);
        tokio::task::block_in_place(|| self.reconcile());
        Ok(())
    }

    /// Records the start of a drain, with the number of flows.
    fn record_drain(&self, id: &BackendId, service: &Service, backend: &Backend) {
        let flows = MapEntries::read(&self.tables)
            .ok()
            .and_then(|entries| entries.flows(&self.tables, service, backend.address));
        let cause = match flows.unwrap_or_default() {
            1 => "1 flow remains".to_owned(),
            flows => format!("{flows} flows remain"),
        };
        self.events
            .record(Happening::new(Kind::DrainStarted, cause).of_backend(&id.service, &id.backend));
    }

    /// Puts a virtual router and its sync group into maintenance, where they stay backup; or ends
    /// that.
    pub(super) fn maintain(&mut self, name: &str, is_maintained: bool) -> Result<(), ControlError> {
        let active = self.active.borrow().clone();
        let config = active.config();
        let router = config.vrrp.iter().find(|router| router.name == name);
        let router = router.ok_or_else(|| no_router(config, name))?;
        let together = config
            .vrrp
            .iter()
            .filter(|other| other.sync_group_key() == router.sync_group_key());
        let mut overrides = Overrides::clone(&active.overrides);
        if !overrides.maintain(together.map(|router| router.name.as_str()), is_maintained) {
            return Ok(());
        }
        overrides_file::save(&config.node.state_dir, &overrides)
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.vrrp.maintain(overrides.maintained().clone());
        let kind = if is_maintained {
            Kind::VrrpMaintained
        } else {
            Kind::VrrpResumed
        };
        self.events
            .record(Happening::new(kind, "by an operator").of_router(name, &router.interface));
        self.activate(overrides);
        Ok(())
    }

    /// Replaces the active overrides.
    fn activate(&self, overrides: Overrides) {
        self.active.send_modify(|active| {
            *active = Arc::new(ActiveConfig {
                overrides: Arc::new(overrides),
                ..ActiveConfig::clone(active)
            });
        });
    }

    /// Finds a backend of the configuration, with its service.
    fn known(&self, id: &BackendId) -> Result<(Service, Backend), ControlError> {
        let active = self.active.borrow();
        let services = &active.config().services;
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
    fn check_ring_capacity(&self, overrides: &Overrides) -> Result<(), ControlError> {
        let active = self.active.borrow().clone();
        let problems = |overrides| {
            self.trial(&active.source.config, overrides)
                .map(|plan| plan.problems)
                .map_err(ControlError::Failed)
        };
        let before = problems(&active.overrides)?;
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

    /// Saves overrides again that could not be saved.
    pub(super) fn save_again(&mut self) {
        let active = self.active.borrow().clone();
        if self.is_unsaved && overrides_file::save(&active.config().node.state_dir, &active.overrides).is_ok() {
            self.is_unsaved = false;
            tracing::info!("the overrides are saved now");
        }
    }

    /// Activates overrides and saves them. If that fails, [`Controller::save_again`] tries again.
    pub(super) fn put_overrides(&mut self, overrides: Overrides) {
        let state_dir = self.active.borrow().config().node.state_dir.clone();
        let saved = overrides_file::save(&state_dir, &overrides);
        self.is_unsaved = saved.is_err();
        if let Err(error) = saved {
            self.events
                .record(Happening::new(Kind::OverridesUnsaved, error.to_string()));
        }
        self.activate(overrides);
        self.aim();
    }
}

/// The event of an override that a configuration makes void.
pub(in crate::daemon) fn cleared(voided: &Voided) -> Happening {
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
