//! What operators decided about backends, beside the configuration: drained, disabled, another weight. And backends that
//! a reload removed, for as long as their flows go on. Pure; moments are arguments.

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

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It takes no new flows; the old ones go on until the deadline.
    Drain {
        /// When that began.
        since: Timestamp,
        /// When what is left is treated as the service treats flows of a dead backend; `None`: never.
        deadline: Option<Timestamp>,
    },
    /// It counts as down, whatever its health.
    Disable {
        /// When that began.
        since: Timestamp,
    },
}

/// What an operator decided about a backend. At least one of both is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Whether it takes flows.
    pub intent: Option<Intent>,
    /// In place of the weight of the configuration.
    pub weight: Option<u32>,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// No new flows, from now on.
    Drain {
        /// How long the old ones may go on; `None`: as long as they like.
        deadline: Option<Duration>,
    },
    /// Take new flows again.
    Undrain,
    /// Count as down.
    Disable,
    /// Count as what health says again.
    Enable,
    /// Have another weight.
    SetWeight(u32),
    /// Have the weight of the configuration again.
    ResetWeight,
}

/// Why a verb makes no sense, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What overrides make of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What health says.
    AsHealthSays,
    /// No new flows.
    Draining,
    /// Nothing.
    Down,
}

/// A backend that a reload removed, whose flows go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Its service.
    pub service: String,
    /// Its name.
    pub backend: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// When it was removed.
    pub since: Timestamp,
    /// When its flows end at the latest.
    pub deadline: Timestamp,
}

/// Something that operators decided and a configuration makes void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voided {
    /// The backend that it was about.
    pub id: BackendId,
    /// Why it is void, in a few words.
    pub cause: &'static str,
}

/// Everything that operators decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    of: BTreeMap<BackendId, Override>,
    /// Backends whose drain has come to its end.
    drained: BTreeSet<BackendId>,
    leaving: Vec<Leaving>,
    /// Virtual routers that stay backup.
    maintained: BTreeSet<String>,
}

impl Overrides {
    /// What was decided about a backend.
    pub fn of(&self, id: &BackendId) -> Option<&Override> {
        self.of.get(id)
    }

    /// All that was decided, by backend.
    pub fn all(&self) -> impl Iterator<Item = (&BackendId, &Override)> {
        self.of.iter()
    }

    /// Virtual routers of which this balancer stays backup.
    pub fn maintained(&self) -> &BTreeSet<String> {
        &self.maintained
    }

    /// Lets virtual routers stay backup, or take part as before. Says whether that changed anything.
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

    /// Whether a backend takes flows, as far as operators decide it.
    pub fn standing(&self, id: &BackendId, now: Timestamp) -> Standing {
        match self.of.get(id).and_then(|own| own.intent) {
            None => Standing::AsHealthSays,
            Some(Intent::Disable { .. }) => Standing::Down,
            Some(Intent::Drain { deadline, .. }) if deadline.is_some_and(|deadline| deadline <= now) => Standing::Down,
            Some(Intent::Drain { .. }) => Standing::Draining,
        }
    }

    /// The weight of a backend, given that of the configuration.
    pub fn weight(&self, id: &BackendId, configured: u32) -> u32 {
        self.of.get(id).and_then(|own| own.weight).unwrap_or(configured)
    }

    /// Carries out a verb. Says whether it changed anything.
    ///
    /// # Errors
    ///
    /// When it makes no sense for what was decided before.
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
                return Err(Refused(format!("{name} is disabled, not draining: `enable` ends that")));
            }
            (Verb::Enable, Some(Intent::Drain { .. })) => {
                return Err(Refused(format!(
                    "{name} is draining, not disabled: `undrain` ends that"
                )));
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

    /// Follows services that have other names now.
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

    /// Forgets what means nothing in this configuration, and those that left and are in it again. Returns what was
    /// decided about backends and is forgotten.
    pub fn prune(&mut self, config: &Config) -> Vec<Voided> {
        let mut voided = Vec::new();
        self.of.retain(|id, own| {
            let mut void = |cause| voided.push(Voided { id: id.clone(), cause });
            let service = config.services.iter().find(|service| service.name == id.service);
            let Some(service) = service else {
                void("its service is not in the configuration any more");
                return false;
            };
            let Some(backend) = service.backends.iter().find(|backend| backend.name == id.backend) else {
                void("it is not in the configuration any more");
                return false;
            };
            if backend.fallback && own.weight.take().is_some() {
                void("it is a fallback backend now, which has no weight");
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

    /// Drains that have not come to their ends yet, with their deadlines.
    pub fn drains(&self) -> impl Iterator<Item = (&BackendId, Option<Timestamp>)> {
        self.of.iter().filter_map(|(id, own)| match own.intent {
            Some(Intent::Drain { deadline, .. }) if !self.drained.contains(id) => Some((id, deadline)),
            _ => None,
        })
    }

    /// Keeps in mind that a drain has come to its end, so that it is told once.
    pub fn end_drain(&mut self, id: BackendId) {
        self.drained.insert(id);
    }

    /// Backends whose weight another configuration changes in vain: an operator's holds, which is given with that of the
    /// other configuration.
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

    /// The backends of a service that were removed and whose flows go on, or are just being ended.
    pub fn leaving<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Leaving> {
        self.leaving
            .iter()
            .filter(move |leaving| leaving.service == service.name)
    }

    /// All of those.
    pub fn all_leaving(&self) -> &[Leaving] {
        &self.leaving
    }

    /// Lets the flows of a removed backend go on.
    pub fn leave(&mut self, leaving: Leaving) {
        self.leaving
            .retain(|other| (&other.service, other.address) != (&leaving.service, leaving.address));
        self.leaving.push(leaving);
    }

    /// Forgets removed backends; returns those.
    pub fn gone(&mut self, is_gone: impl Fn(&Leaving) -> bool) -> Vec<Leaving> {
        let (gone, left) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|leaving| is_gone(leaving));
        self.leaving = left;
        gone
    }

    /// The next moment at which a deadline changes something.
    pub fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let drains = self.of.values().filter_map(|own| match own.intent {
            Some(Intent::Drain { deadline, .. }) => deadline,
            _ => None,
        });
        let leaving = self.leaving.iter().map(|leaving| leaving.deadline);
        drains.chain(leaving).filter(|deadline| *deadline > now).min()
    }
}

/// A moment that much later.
fn later(now: Timestamp, time: Duration) -> Result<Timestamp, Refused> {
    SignedDuration::try_from(time)
        .ok()
        .and_then(|time| now.checked_add(time).ok())
        .ok_or_else(|| Refused("the deadline is too far away; expected one within some thousand years".to_owned()))
}

/// When what is removed now ends at the latest.
pub fn deadline_after(now: Timestamp, time: Duration) -> Timestamp {
    later(now, time).unwrap_or(Timestamp::MAX)
}
