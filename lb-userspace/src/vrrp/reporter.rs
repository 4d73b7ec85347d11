//! Reports what happens to one virtual router: its status, events, warnings, and calls of its hook.

use std::{collections::BTreeSet, net::IpAddr, time::SystemTime};

use super::{
    hooks::RoleChange,
    lease,
    status::{Notice, Status, StatusStore},
};
use crate::events::{Happening, Kind};
use lb_core::{
    config::Vrrp,
    vrrp::{
        TrackState,
        instance::{Instance, LISTENING, Micros, Role},
    },
};

/// The least time between two events about the same master's grace, in microseconds. Its adverts
/// may come now and then.
const GRACE_EVENT_INTERVAL: Micros = 10_000_000;

/// Keeps the status of a virtual router, and reports its changes.
pub(super) struct Reporter {
    store: StatusStore,
    status: Status,
    /// Whether the store has the present status.
    is_published: bool,
    /// State of the tracks with a weight when a change of the priority was last reported.
    reported_weights: Vec<TrackState>,
    /// When the grace of a master was last reported.
    grace_reported: Option<Micros>,
    /// Since when the virtual router has its role.
    role_since: Micros,
    /// Whether the cause of the status says what is heard.
    is_listening: bool,
}

impl Reporter {
    /// Reports a virtual router that starts.
    pub(super) fn new(store: StatusStore, config: &Vrrp) -> Self {
        let mut reporter = Self {
            store,
            status: Status::new(&config.name),
            is_published: false,
            reported_weights: Vec::new(),
            grace_reported: None,
            role_since: lease::now(),
            is_listening: false,
        };
        reporter.publish();
        reporter
    }

    /// The role that was reported last.
    pub(super) fn role(&self) -> Role {
        self.status.role
    }

    /// Whether this role is reported with this cause.
    pub(super) fn is_reported(&self, role: Role, cause: &str) -> bool {
        self.status.role == role && self.status.cause == cause
    }

    /// Whether this balancer has been master for at least that time.
    pub(super) fn is_master_for(&self, time: Micros) -> bool {
        self.status.role == Role::Master && lease::now() >= self.role_since + time
    }

    /// Changes a counter of the status.
    pub(super) fn count(&mut self, count: impl FnOnce(&mut Status)) {
        count(&mut self.status);
        self.is_published = false;
    }

    /// Logs a warning.
    pub(super) fn warn(&self, sentence: impl std::fmt::Display) {
        self.store.warn(format!("{}: {sentence}", self.status.name));
    }

    /// Records an event.
    pub(super) fn event(&mut self, config: &Vrrp, kind: Kind, cause: &str) {
        let happening = Happening::new(kind, cause).of_router(&config.name, &config.interface);
        self.store.notify(Notice::Event(happening));
        self.is_published = false;
    }

    /// Reports that the virtual router has a role, by an event and, if the role changed, by its
    /// hook.
    pub(super) fn set_role(&mut self, config: &Vrrp, role: Role, cause: &str) {
        if self.is_reported(role, cause) {
            return;
        }
        let former = std::mem::replace(&mut self.status.role, role);
        if former != role {
            self.status.since = SystemTime::now();
            self.role_since = lease::now();
            self.call_hook(config, former, cause);
        }
        cause.clone_into(&mut self.status.cause);
        self.is_listening = cause == LISTENING;
        let kind = match role {
            Role::Initialize => Kind::VrrpInitialize,
            Role::Fault => Kind::VrrpFault,
            Role::Backup => Kind::VrrpBackup,
            Role::Master => Kind::VrrpMaster,
        };
        self.event(config, kind, cause);
    }

    fn call_hook(&self, config: &Vrrp, former: Role, cause: &str) {
        let Some(hook) = &config.hook else { return };
        let change = RoleChange {
            name: config.name.clone(),
            interface: config.interface.clone(),
            addresses: config.addresses.iter().map(ToString::to_string).collect(),
            former,
            role: self.status.role,
            cause: cause.to_owned(),
            hook: hook.clone(),
        };
        self.store.notify(Notice::Role(Box::new(change)));
    }

    /// Whether the priority of the instance is not reported yet.
    pub(super) fn is_priority_new(&self, instance: &Instance) -> bool {
        instance.priority() != self.status.priority
    }

    /// Reports what the instance knows; see
    /// [`VirtualRouter::report`](super::virtual_router::VirtualRouter::report).
    pub(super) fn update(
        &mut self,
        config: &Vrrp,
        instance: &Instance,
        source: Option<IpAddr>,
        (tracks, of_group): (&[TrackState], &[TrackState]),
        now: Micros,
    ) {
        self.report_grace(config, instance, now);
        if self.is_priority_new(instance) {
            self.report_priority(config, instance.priority(), of_group);
        }
        if tracks != self.status.tracks {
            tracks.clone_into(&mut self.status.tracks);
            self.is_published = false;
        }
        if self.is_listening {
            let cause = instance.backup_cause();
            if replace(&mut self.status.cause, cause) {
                self.is_published = false;
            }
        }
        let status = &mut self.status;
        let mut is_changed = false;
        is_changed |= replace(&mut status.priority, instance.priority());
        is_changed |= replace(&mut status.source, source);
        is_changed |= replace(&mut status.is_maintained, instance.is_maintained());
        is_changed |= replace(&mut status.master, instance.master());
        is_changed |= replace(&mut status.is_in_grace, instance.is_in_grace(now));
        if is_changed {
            self.is_published = false;
        }
        self.publish();
    }

    /// Reports that only the packet path of the master replies.
    fn report_grace(&mut self, config: &Vrrp, instance: &Instance, now: Micros) {
        let begins = instance.is_in_grace(now) && !self.status.is_in_grace;
        let is_recent = |last: Micros| now < last + GRACE_EVENT_INTERVAL;
        let Some((master, _)) = instance.master() else { return };
        if !begins || self.grace_reported.is_some_and(is_recent) {
            return;
        }
        self.grace_reported = Some(now);
        let cause = format!("adverts of {master} are missing, but its packet path still forwards");
        self.event(config, Kind::VrrpGrace, &cause);
    }

    /// Reports a changed priority, with the tracks that changed it. `of_group` are the tracks of
    /// the sync group.
    fn report_priority(&mut self, config: &Vrrp, priority: u8, of_group: &[TrackState]) {
        let weights = of_group.iter().filter(|track| track.weight.is_some());
        let before = std::mem::replace(&mut self.reported_weights, weights.cloned().collect());
        // The first priority is no change.
        if self.status.priority != 0 {
            let reason = changed_tracks(&before, &self.reported_weights);
            let cause = format!("{priority}, was {}{reason}", self.status.priority);
            self.event(config, Kind::VrrpPriorityChanged, &cause);
        }
    }

    fn publish(&mut self) {
        if !self.is_published {
            self.is_published = self.store.publish(&self.status);
        }
    }

    /// Removes the virtual router from the store.
    pub(super) fn remove(&self) {
        self.store.remove(&self.status.name);
    }
}

/// Sets a value. Returns whether it was another one before.
fn replace<T: PartialEq>(value: &mut T, new: T) -> bool {
    std::mem::replace(value, new) != *value
}

/// The tracks that went up or down, each once, as a suffix to a priority: ": interface eth1 is
/// down".
fn changed_tracks(before: &[TrackState], after: &[TrackState]) -> String {
    let new = after.iter().filter(|track| !before.contains(track));
    let words = new.map(|track| track.down.clone().unwrap_or_else(|| format!("{} is up", track.what)));
    let words = Vec::from_iter(words.collect::<BTreeSet<_>>()).join("; ");
    if words.is_empty() { words } else { format!(": {words}") }
}
