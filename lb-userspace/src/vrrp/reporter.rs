//! What a virtual router shows of itself: its status on the store, events, warnings, and what its hook is told.

use std::{collections::BTreeSet, net::IpAddr, time::SystemTime};

use super::{
    hooks::RoleChange,
    lease,
    status::{Notice, Status, StatusStore},
};
use crate::events::{Happening, Kind};
use lb_core::config::Vrrp;
use lb_core::vrrp::{
    TrackState,
    instance::{Instance, Micros, Role},
};

/// Why a group that begins or returns takes no part yet.
pub(super) const WAITS: &str = "it waits for health checks";
/// Why one takes no part any more when the daemon ends.
pub(super) const ENDS: &str = "the daemon ends";
/// Why one takes no part any more after a reload.
pub(super) const LEAVES: &str = "the configuration has it no more, or another one";
/// How often at most it is told that only a master's packet path is there: its adverts may come now and then.
const GRACE_AGAIN: Micros = 10_000_000;

/// The status of a virtual router, and whom it is told.
pub(super) struct Reporter {
    store: StatusStore,
    status: Status,
    /// Whether the store knows the status.
    is_published: bool,
    /// How what moves its priority was, when that was told last.
    weighed: Vec<TrackState>,
    /// When it was told last that only a master's packet path is there.
    graced: Option<Micros>,
    /// Since when it has its role.
    since: Micros,
}

impl Reporter {
    /// Of one that takes no part yet.
    pub(super) fn new(store: StatusStore, config: &Vrrp) -> Self {
        let mut reporter = Self {
            store,
            status: Status::new(&config.name),
            is_published: false,
            weighed: Vec::new(),
            graced: None,
            since: lease::now(),
        };
        reporter.publish();
        reporter
    }

    /// What it is.
    pub(super) fn role(&self) -> Role {
        self.status.role
    }

    /// Whether it takes no part for that reason, and that is told.
    pub(super) fn is_out_for(&self, cause: &str) -> bool {
        self.status.role == Role::Out && self.status.cause == cause
    }

    /// Whether it is master for so long at least.
    pub(super) fn is_master_since(&self, length: Micros) -> bool {
        self.status.role == Role::Master && lease::now() >= self.since + length
    }

    /// Counts something.
    pub(super) fn count(&mut self, count: impl FnOnce(&mut Status)) {
        count(&mut self.status);
        self.is_published = false;
    }

    /// Says that something is wrong.
    pub(super) fn warn(&self, sentence: impl std::fmt::Display) {
        self.store.warn(format!("{}: {sentence}", self.status.name));
    }

    /// Writes down what it is now.
    pub(super) fn note(&mut self, config: &Vrrp, role: Role, cause: &str) {
        let status = &mut self.status;
        if status.role == role && status.cause == cause {
            return;
        }
        if status.role != role {
            status.since = SystemTime::now();
            self.since = lease::now();
            if let Some(hook) = &config.hook {
                let change = RoleChange {
                    name: config.name.clone(),
                    interface: config.interface.clone(),
                    addresses: config.addresses.iter().map(ToString::to_string).collect(),
                    former: status.role,
                    role,
                    cause: cause.to_owned(),
                    hook: hook.clone(),
                };
                self.store.tell(Notice::Role(Box::new(change)));
            }
        }
        status.role = role;
        cause.clone_into(&mut status.cause);
        let kind = match role {
            Role::Master => Kind::VrrpMaster,
            Role::Backup => Kind::VrrpBackup,
            Role::Out if is_calm(cause) => Kind::VrrpOut,
            Role::Out => Kind::VrrpFault,
        };
        self.tell(config, kind, cause);
    }

    /// Has an event told.
    pub(super) fn tell(&mut self, config: &Vrrp, kind: Kind, cause: &str) {
        let happening = Happening::new(kind, cause).of_router(&config.name, &config.interface);
        self.store.tell(Notice::Event(happening));
        self.is_published = false;
    }

    /// Whether its priority is another one than was reporter last.
    pub(super) fn is_moved(&self, instance: &Instance) -> bool {
        instance.priority() != self.status.priority
    }

    /// Shows how things are; see [`VirtualRouter::show`](super::virtual_router::VirtualRouter::show).
    pub(super) fn show(
        &mut self,
        config: &Vrrp,
        instance: &Instance,
        source: Option<IpAddr>,
        (tracks, of_group): (&[TrackState], &[TrackState]),
        now: Micros,
    ) {
        let (master, is_graced) = (instance.master(), instance.is_graced(now));
        if let (true, false, Some((master, _))) = (is_graced, self.status.is_graced, master)
            && self.graced.is_none_or(|told| now >= told + GRACE_AGAIN)
        {
            self.graced = Some(now);
            let cause =
                format!("adverts of {master} are missing, but its packets still pass: its controller may return");
            self.tell(config, Kind::VrrpGrace, &cause);
        }
        let priority = instance.priority();
        if self.is_moved(instance) {
            let weights = of_group.iter().filter(|track| track.weight.is_some());
            let weighed = std::mem::replace(&mut self.weighed, weights.cloned().collect());
            let reason = moved(&weighed, &self.weighed);
            // Before anything was reporter nothing moved.
            if self.status.priority != 0 {
                let cause = format!("{priority}, was {}{reason}", self.status.priority);
                self.tell(config, Kind::VrrpPriorityChanged, &cause);
            }
        }
        if tracks != self.status.tracks {
            tracks.clone_into(&mut self.status.tracks);
            self.is_published = false;
        }
        let seen = (priority, source, instance.is_maintained(), master, is_graced);
        let status = &mut self.status;
        let before = (
            status.priority,
            status.source,
            status.is_maintained,
            status.master,
            status.is_graced,
        );
        if seen != before {
            (
                status.priority,
                status.source,
                status.is_maintained,
                status.master,
                status.is_graced,
            ) = seen;
            self.is_published = false;
        }
        self.publish();
    }

    fn publish(&mut self) {
        if !self.is_published {
            self.is_published = self.store.publish(&self.status);
        }
    }

    /// Nothing is to be reporter of it any more.
    pub(super) fn forget(&self) {
        self.store.forget(&self.status.name);
    }
}

/// Whether somebody wants it so, or it is soon over.
fn is_calm(cause: &str) -> bool {
    // Of a member of its group it is told behind that one's name.
    [WAITS, ENDS, LEAVES].iter().any(|calm| cause.ends_with(calm))
}

/// Which of those that it depends on came or went, in words that follow a number; each once.
fn moved(before: &[TrackState], after: &[TrackState]) -> String {
    let new = after.iter().filter(|track| !before.contains(track));
    let words = new.map(|track| track.down.clone().unwrap_or_else(|| format!("{} is up", track.what)));
    let words = Vec::from_iter(words.collect::<BTreeSet<_>>()).join("; ");
    if words.is_empty() { words } else { format!(": {words}") }
}
