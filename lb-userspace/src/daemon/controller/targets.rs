//! What health checks and neighbour resolution work on: the backends of the active configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::BackendState;

use super::Controller;
use crate::daemon::{ActiveConfig, map_entries::MapEntries};
use lb_core::{config::BackendId, health::Verdict, reconcile::Condition};

/// Health verdicts by backend.
pub(super) type Verdicts = BTreeMap<BackendId, Verdict>;

impl Controller {
    /// Gives health checks and neighbour resolution the backends of the active configuration.
    pub(in crate::daemon) fn aim(&self) {
        let active = self.active.borrow();
        let leaving = active.overrides.all_leaving().iter();
        let mut addresses: BTreeSet<IpAddr> = leaving.map(|leaving| leaving.address.ip()).collect();
        for service in &active.config().services {
            for backend in &service.backends {
                addresses.insert(backend.address.ip());
            }
        }
        self.health
            .set_targets(&active.targets, &self.verdicts_of_maps(&active));
        self.neighbours.set_targets(addresses);
    }

    /// Verdicts of a former controller or a former check, as the maps hold them. Backends whose
    /// state in the maps has another reason have none.
    fn verdicts_of_maps(&self, active: &ActiveConfig) -> Verdicts {
        let Ok(entries) = MapEntries::read(&self.tables) else {
            return Verdicts::new();
        };
        let conditions = self.conditions.borrow();
        let mut found = Verdicts::new();
        for service in &active.config().services {
            // In panic mode all backends are up, whatever their health.
            if conditions.get(&service.name) == Some(&Condition::Panic) {
                continue;
            }
            for backend in &service.backends {
                let id = BackendId {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                };
                let is_overridden = active.overrides.of(&id).is_some_and(|own| own.intent.is_some());
                let state = entries
                    .find(service, backend.address)
                    .map(|(_, entry)| entry.status.state());
                match state.filter(|_| !is_overridden) {
                    Some(BackendState::Up) => found.insert(id, Verdict::Up),
                    Some(BackendState::Down) => found.insert(id, Verdict::Down),
                    Some(BackendState::Draining | BackendState::Free) | None => None,
                };
            }
        }
        found
    }

    /// Gives health checks the interface of each backend.
    pub(super) fn update_routes(&self) {
        let hops = self.next_hops.borrow();
        let routes = hops.iter().map(|(address, state)| (*address, state.interface.as_str()));
        self.health.link_flaps().set_routes(routes);
    }
}
