//! Overrides: changes by operators that outlive a restart (drain, disable, weight, maintain).
//!
//! Also keeps the backends that a reload removed, as long as their flows continue. Time is an
//! argument.

mod document;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

pub use document::{from_json, to_json};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::{BackendId, Config, Service};

/// The override of a backend's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// No new flows. Old flows continue until the deadline.
    Drain {
        /// When it began.
        since: Timestamp,
        /// When the remaining flows are treated as `on_backend_down` says. `None`: never.
        deadline: Option<Timestamp>,
    },
    /// Counts as down, whatever its health.
    Disable {
        /// When it began.
        since: Timestamp,
    },
}

/// The overrides of a backend. At least one of both fields is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Drained or disabled. `None`: enabled.
    pub intent: Option<Intent>,
    /// Weight in place of the configured one, 0 to [`MOST_WEIGHT`](crate::config::MOST_WEIGHT).
    /// `None`: the configured one.
    pub weight: Option<u32>,
}

/// A change by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Accept no new flows.
    Drain {
        /// How long old flows may continue. `None`: without limit.
        deadline: Option<Duration>,
    },
    /// End a drain.
    Undrain,
    /// Count as down.
    Disable,
    /// End `Disable`: follow health again.
    Enable,
    /// Set a weight in place of the configured one.
    SetWeight(u32),
    /// Use the configured weight again.
    ResetWeight,
}

/// Why a change is refused, one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Administrative state of a backend, as overrides decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminState {
    /// Follows its health.
    Enabled,
    /// No new flows; old flows continue.
    Draining,
    /// No flows: disabled, or its drain deadline has passed.
    Down,
}

/// A backend that a reload removed and whose flows continue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
    /// Address and port.
    pub address: SocketAddr,
    /// When it was removed.
    pub since: Timestamp,
    /// When its remaining flows end.
    pub deadline: Timestamp,
}

/// An override that a new configuration makes void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voided {
    /// The backend.
    pub id: BackendId,
    /// Why it is void, a short phrase.
    pub cause: &'static str,
}

/// All overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    of: BTreeMap<BackendId, Override>,
    /// Backends whose drain has ended.
    drained: BTreeSet<BackendId>,
    /// Backends that reloads removed and whose flows continue.
    leaving: Vec<Leaving>,
    /// Names of virtual routers that are held in Backup.
    maintained: BTreeSet<String>,
}

impl Overrides {
    /// The override of a backend.
    pub fn of(&self, id: &BackendId) -> Option<&Override> {
        self.of.get(id)
    }

    /// The overrides of all backends.
    pub fn all(&self) -> impl Iterator<Item = (&BackendId, &Override)> {
        self.of.iter()
    }

    /// Names of virtual routers that are held in Backup.
    pub fn maintained(&self) -> &BTreeSet<String> {
        &self.maintained
    }

    /// Holds virtual routers in Backup, or ends that. Returns whether anything changed.
    pub fn maintain<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, is_maintained: bool) -> bool {
        let mut changed = false;
        for name in names {
            changed |= if is_maintained {
                self.maintained.insert(name.to_owned())
            } else {
                self.maintained.remove(name)
            };
        }
        changed
    }

    /// Administrative state of a backend.
    pub fn admin_state(&self, id: &BackendId, now: Timestamp) -> AdminState {
        match self.of.get(id).and_then(|own| own.intent) {
            None => AdminState::Enabled,
            Some(Intent::Disable { .. }) => AdminState::Down,
            Some(Intent::Drain { deadline, .. }) if deadline.is_some_and(|deadline| deadline <= now) => {
                AdminState::Down
            }
            Some(Intent::Drain { .. }) => AdminState::Draining,
        }
    }

    /// Weight of a backend. `configured` is its weight in the configuration.
    pub fn weight(&self, id: &BackendId, configured: u32) -> u32 {
        self.of.get(id).and_then(|own| own.weight).unwrap_or(configured)
    }

    /// Applies a change. Returns whether anything changed.
    ///
    /// # Errors
    ///
    /// If the change does not fit the state, such as `undrain` of a disabled backend.
    pub fn change(&mut self, id: &BackendId, verb: Verb, now: Timestamp) -> Result<bool, Refused> {
        let before = self.of.get(id).copied().unwrap_or_default();
        let mut after = before;
        let name = format!("{}/{}", id.service, id.backend);
        match (verb, before.intent) {
            (Verb::Drain { deadline }, intent) => {
                let deadline = deadline.map(|time| later(now, time)).transpose()?;
                let since = match intent {
                    Some(Intent::Drain { since, .. }) => since,
                    _ => now,
                };
                after.intent = Some(Intent::Drain { since, deadline });
            }
            (Verb::Undrain, Some(Intent::Disable { .. })) => {
                return Err(Refused(format!("{name} is disabled, not draining: use `enable`")));
            }
            (Verb::Enable, Some(Intent::Drain { .. })) => {
                return Err(Refused(format!("{name} is draining, not disabled: use `undrain`")));
            }
            (Verb::Undrain | Verb::Enable, _) => after.intent = None,
            (Verb::Disable, Some(Intent::Disable { .. })) => {}
            (Verb::Disable, _) => after.intent = Some(Intent::Disable { since: now }),
            (Verb::SetWeight(weight), _) => after.weight = Some(weight),
            (Verb::ResetWeight, _) => after.weight = None,
        }
        if after.intent != before.intent {
            self.drained.remove(id);
        }
        if after == Override::default() {
            self.of.remove(id);
        } else {
            self.of.insert(id.clone(), after);
        }
        Ok(before != after)
    }

    /// Renames services: old name to new name.
    pub fn rename(&mut self, names: &BTreeMap<String, String>) {
        let id = |id: BackendId| match names.get(&id.service) {
            Some(new) => BackendId {
                service: new.clone(),
                ..id
            },
            None => id,
        };
        self.of = std::mem::take(&mut self.of)
            .into_iter()
            .map(|(of, own)| (id(of), own))
            .collect();
        self.drained = std::mem::take(&mut self.drained).into_iter().map(id).collect();
        for leaving in &mut self.leaving {
            if let Some(new) = names.get(&leaving.service) {
                leaving.service.clone_from(new);
            }
        }
    }

    /// Removes overrides of backends and virtual routers that `config` does not have, and entries
    /// of removed backends that it has again. Returns the overrides of backends that were removed.
    pub fn prune(&mut self, config: &Config) -> Vec<Voided> {
        let mut voided = Vec::new();
        self.of.retain(|id, own| {
            let mut void = |cause| voided.push(Voided { id: id.clone(), cause });
            let service = config.services.iter().find(|service| service.name == id.service);
            let Some(service) = service else {
                void("its service was removed from the configuration");
                return false;
            };
            let Some(backend) = service.backends.iter().find(|backend| backend.name == id.backend) else {
                void("it was removed from the configuration");
                return false;
            };
            if backend.fallback && own.weight.take().is_some() {
                void("it is now a fallback backend; these have no weight");
            }
            *own != Override::default()
        });
        self.drained.retain(|id| self.of.contains_key(id));
        self.leaving.retain(|leaving| {
            let service = config.services.iter().find(|service| service.name == leaving.service);
            service.is_some_and(|service| {
                service
                    .backends
                    .iter()
                    .all(|backend| backend.address != leaving.address)
            })
        });
        self.maintained
            .retain(|name| config.vrrp.iter().any(|vrrp| vrrp.name == *name));
        voided
    }

    /// Drains that have not ended, with their deadlines.
    pub fn drains(&self) -> impl Iterator<Item = (&BackendId, Option<Timestamp>)> {
        self.of.iter().filter_map(|(id, own)| match own.intent {
            Some(Intent::Drain { deadline, .. }) if !self.drained.contains(id) => Some((id, deadline)),
            _ => None,
        })
    }

    /// Records that a drain has ended, so that this is announced once.
    pub fn end_drain(&mut self, id: BackendId) {
        self.drained.insert(id);
    }

    /// Backends whose configured weight changes without effect, because an override is in force.
    /// Each with the weight of the override and the new weight of the configuration.
    pub fn shadowed(&self, before: &Config, next: &Config) -> Vec<(BackendId, u32, u32)> {
        let configured = |config: &Config, id: &BackendId| {
            let service = config.services.iter().find(|service| service.name == id.service)?;
            let backend = service.backends.iter().find(|backend| backend.name == id.backend)?;
            Some(backend.weight)
        };
        let shadowed = |(id, own): (&BackendId, &Override)| {
            let (held, wanted) = (own.weight?, configured(next, id)?);
            (held != wanted && configured(before, id) != Some(wanted)).then(|| (id.clone(), held, wanted))
        };
        self.of.iter().filter_map(shadowed).collect()
    }

    /// The removed backends of a service whose flows continue or are being ended.
    pub fn leaving<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Leaving> {
        self.leaving
            .iter()
            .filter(move |leaving| leaving.service == service.name)
    }

    /// The removed backends of all services.
    pub fn all_leaving(&self) -> &[Leaving] {
        &self.leaving
    }

    /// Adds a removed backend whose flows continue.
    pub fn leave(&mut self, leaving: Leaving) {
        self.leaving
            .retain(|other| (&other.service, other.address) != (&leaving.service, leaving.address));
        self.leaving.push(leaving);
    }

    /// Drops the removed backends for which `is_gone` holds. Returns them.
    pub fn gone(&mut self, is_gone: impl Fn(&Leaving) -> bool) -> Vec<Leaving> {
        let (gone, left) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|leaving| is_gone(leaving));
        self.leaving = left;
        gone
    }

    /// The first deadline after `now`.
    pub fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let drains = self.of.values().filter_map(|own| match own.intent {
            Some(Intent::Drain { deadline, .. }) => deadline,
            _ => None,
        });
        let leaving = self.leaving.iter().map(|leaving| leaving.deadline);
        drains.chain(leaving).filter(|deadline| *deadline > now).min()
    }
}

/// `now` plus `time`.
fn later(now: Timestamp, time: Duration) -> Result<Timestamp, Refused> {
    SignedDuration::try_from(time)
        .ok()
        .and_then(|time| now.checked_add(time).ok())
        .ok_or_else(|| Refused("the deadline is too far away; expected less than 7000 years".to_owned()))
}

/// Deadline of a backend that is removed at `now`.
pub fn deadline_after(now: Timestamp, time: Duration) -> Timestamp {
    later(now, time).unwrap_or(Timestamp::MAX)
}
