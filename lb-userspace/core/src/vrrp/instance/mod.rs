//! The state machine of one virtual router, as one balancer sees it (RFC 9568, section 6.4).
//!
//! ```text
//!                          start, as owner or with the lease
//!                 +-----------------+        +-----------------+
//!                 |   Initialize    |------->|     Master      |
//!                 | (or in a fault) |<-------|   (RFC: Active) |
//!                 +-----------------+  stop  +-----------------+
//!                    |          ^               ^          |
//!              start |          | stop          |          | better master heard, release,
//!                    |          |      timer    |          | maintain, lease lost
//!                    v          |      expires, |          |
//!                 +-----------------+  take     |          |
//!                 |     Backup      |-----------+          |
//!                 |                 |<---------------------+
//!                 +-----------------+
//! ```
//!
//! The state machine is pure: time is an argument, and actions are return values. `backup` and
//! `master` hold what each state knows, `liveness` is about echoes to a master whose adverts are
//! missing.

use std::net::IpAddr;

use self::{
    backup::{Backup, HeardMaster},
    master::Master,
};
use super::advert::Advert;

mod action;
mod backup;
mod liveness;
mod master;
mod parameters;
#[cfg(test)]
mod tests;

pub use action::{Action, EchoReply, Inactive, Role};
pub use parameters::{Micros, OWNER, Parameters};

/// Cause of the role backup when an instance starts.
pub const LISTENING: &str = "listening for adverts";

/// One virtual router, as this balancer sees it.
#[derive(Clone, Debug)]
pub struct Instance {
    parameters: Parameters,
    /// Whether this balancer stays backup until an operator resumes it.
    is_maintained: bool,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Initialize,
    Backup(Backup),
    Master(Master),
}

impl Instance {
    /// An instance in the state Initialize.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            is_maintained: false,
            state: State::Initialize,
        }
    }

    /// The role. An inactive instance has the role [`Role::Initialize`], whatever keeps it
    /// inactive.
    pub fn role(&self) -> Role {
        match self.state {
            State::Initialize => Role::Initialize,
            State::Backup(_) => Role::Backup,
            State::Master(_) => Role::Master,
        }
    }

    /// The priority of this balancer: 1 to 255.
    pub fn priority(&self) -> u8 {
        self.parameters.priority
    }

    /// Whether this balancer owns the addresses, see [`Parameters::is_owner`].
    pub fn is_owner(&self) -> bool {
        self.parameters.is_owner()
    }

    /// Whether this balancer stays backup until an operator resumes it.
    pub fn is_maintained(&self) -> bool {
        self.is_maintained
    }

    /// The master that is heard, and its priority. `None` if this balancer is master itself.
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        let master = self.backup()?.master?;
        Some((master.address, master.priority))
    }

    /// Whether the master's adverts are missing, and only its packet path replies.
    pub fn is_in_grace(&self, now: Micros) -> bool {
        self.backup()
            .is_some_and(|backup| backup.is_in_grace(&self.parameters, now))
    }

    /// What a backup waits for, in words for an operator.
    pub fn backup_cause(&self) -> String {
        let Some((master, priority)) = self.master() else {
            return LISTENING.to_owned();
        };
        let is_off = !self.parameters.preempt && priority < self.parameters.priority;
        let preemption = if is_off { "; preemption is off" } else { "" };
        format!("master {master} (priority {priority}) is heard{preemption}")
    }

    /// How long a master may be silent before this balancer takes over, in microseconds.
    pub fn down_interval(&self) -> Micros {
        let own = self.parameters.interval;
        let interval = self.backup().map_or(own, |backup| backup.master_interval);
        self.parameters.down_interval(interval)
    }

    /// When [`Instance::tick`] has something to do.
    pub fn deadline(&self) -> Option<Micros> {
        match &self.state {
            State::Initialize => None,
            State::Backup(backup) => {
                let probe = backup.liveness.next_probe();
                self.takeover_at(backup).into_iter().chain(probe).min()
            }
            State::Master(master) => Some(master.deadline()),
        }
    }

    /// Until when a master that is heard, or whose packet path replies, keeps this balancer from
    /// taking over. `None`: no master does.
    pub fn defers_until(&self, now: Micros) -> Option<Micros> {
        let backup = self.backup()?;
        backup
            .master
            .filter(|master| !self.parameters.preempts(master.priority))?;
        // If only the packet path replies: until the next echo.
        let until = self.takeover_at(backup).unwrap_or(now + backup.probe_interval());
        Some(until).filter(|until| now < *until)
    }

    fn takeover_at(&self, backup: &Backup) -> Option<Micros> {
        backup.takeover_at().filter(|_| !self.is_maintained)
    }

    fn backup(&self) -> Option<&Backup> {
        match &self.state {
            State::Backup(backup) => Some(backup),
            State::Initialize | State::Master(_) => None,
        }
    }

    fn backup_mut(&mut self) -> Option<&mut Backup> {
        match &mut self.state {
            State::Backup(backup) => Some(backup),
            State::Initialize | State::Master(_) => None,
        }
    }
}

/// Time and adverts.
impl Instance {
    /// Does what is due.
    pub fn tick(&mut self, now: Micros) -> Vec<Action> {
        let backup = match &mut self.state {
            State::Initialize => return Vec::new(),
            State::Master(master) => return master.tick(&self.parameters, now),
            State::Backup(backup) => backup,
        };
        let mut actions = backup.probe_if_due(&self.parameters, now);
        let takeover = backup.takeover_at().filter(|_| !self.is_maintained);
        if takeover.is_none_or(|due| now < due) {
            return actions;
        }
        if backup.needs_more_probes(&self.parameters) {
            actions.extend(backup.probe(&self.parameters, now));
        } else {
            let cause = format!("became master: {}", backup.takeover_cause(now));
            actions.extend(self.become_master(now, &cause));
        }
        actions
    }

    /// Handles a valid advert for this virtual router. `from` is its source, `own` the source of
    /// this balancer's adverts.
    pub fn handle_advert(&mut self, from: IpAddr, own: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        let wins = self.wins_against(from, own, advert);
        match &mut self.state {
            State::Initialize => Vec::new(),
            State::Backup(backup) => backup.handle_advert(&self.parameters, from, advert, now),
            State::Master(master) if advert.priority == 0 => {
                master.assert_role(&self.parameters, now).into_iter().collect()
            }
            // "Discard the ADVERTISEMENT; Send an ADVERTISEMENT immediately to assert the Active
            // state to the sending VRRP Router, and to update any learning bridges". Clients that
            // followed the other master are corrected too.
            State::Master(master) if wins => {
                let assertion = master.assert_role(&self.parameters, now);
                assertion.into_iter().chain(master.announce(now)).collect()
            }
            State::Master(_) => self.yield_to(from, advert, now),
        }
    }

    /// Whether this balancer is master, and stays master against that advert of another master.
    pub fn wins_against(&self, from: IpAddr, own: IpAddr, advert: &Advert) -> bool {
        // "If the Priority in the ADVERTISEMENT is greater than the local Priority, or [...] equal
        // to the local Priority and the primary IPvX address of the sender is greater than the
        // local primary IPvX address".
        let is_better = (advert.priority, from) > (self.parameters.priority, own);
        self.role() == Role::Master && advert.priority != 0 && (self.is_owner() || !is_better)
    }

    /// Becomes backup of a better master.
    fn yield_to(&mut self, from: IpAddr, advert: &Advert, now: Micros) -> Vec<Action> {
        let interval = advert.interval.max(1);
        let backup = Backup {
            master: Some(HeardMaster {
                address: from,
                priority: advert.priority,
                heard: now,
            }),
            ..Backup::new(now, now + self.parameters.down_interval(interval), interval)
        };
        let cause = format!("yielded to {from} (priority {})", advert.priority);
        // The better master may not know that there were two. A last advert makes it announce the
        // addresses again, so that no client stays here.
        let mut actions = vec![Action::SendAdvert(self.parameters.priority)];
        actions.extend(self.become_backup(backup, &cause));
        actions
    }

    /// Handles the reply of a packet path to an echo.
    pub fn handle_echo_reply(&mut self, reply: EchoReply, now: Micros) {
        if let State::Backup(backup) = &mut self.state {
            backup.handle_echo_reply(&self.parameters, reply, now);
        }
    }

    /// Whether `other` is the master, as far as this balancer knows.
    pub fn follows(&self, other: IpAddr) -> bool {
        self.backup().is_none_or(|backup| backup.follows(other))
    }

    /// The master resigned, in this virtual router or in another one of the sync group.
    pub fn master_resigned(&mut self, now: Micros) {
        if let State::Backup(backup) = &mut self.state {
            backup.master_resigned(&self.parameters, now);
        }
    }

    /// Takes over at `until` or later.
    pub fn postpone(&mut self, until: Micros) {
        if let Some(backup) = self.backup_mut() {
            backup.postpone(until);
        }
    }

    /// Takes over after another advert interval or later.
    pub fn postpone_by_interval(&mut self, now: Micros) {
        if let Some(backup) = self.backup_mut() {
            backup.postpone(now + backup.master_interval);
        }
    }
}

/// Starts, stops, operators and reloads.
impl Instance {
    /// Leaves Initialize. An instance that still holds the lease was master until just now, and
    /// stays master.
    pub fn start(&mut self, now: Micros, holds_lease: bool) -> Vec<Action> {
        if !self.role().is_inactive() {
            return Vec::new();
        }
        if holds_lease && !self.is_maintained {
            return self.become_master(now, "still holds the lease of the addresses");
        }
        if self.is_owner() && !self.is_maintained {
            return self.become_master(now, "owns the addresses (priority 255)");
        }
        let backup = self.new_backup(now);
        self.become_backup(backup, LISTENING)
    }

    /// Enters Initialize. A master resigns, so that another balancer takes over at once.
    pub fn stop(&mut self, why: Inactive, cause: &str) -> Vec<Action> {
        let before = std::mem::replace(&mut self.state, State::Initialize);
        let became = Action::Become(why.into(), cause.to_owned());
        match before {
            State::Initialize => Vec::new(),
            State::Backup(_) => vec![became],
            // RFC 9568, section 6.4.3: "If a Shutdown event is received, then: [...] Send an
            // ADVERTISEMENT with Priority = 0".
            State::Master(_) => vec![Action::SendAdvert(0), became],
        }
    }

    /// An operator releases the addresses: resigns, and lets other balancers be master for two down
    /// intervals.
    pub fn release(&mut self, now: Micros) -> Vec<Action> {
        let until = now + 2 * self.parameters.down_interval(self.parameters.interval);
        let backup = Backup {
            deadline: until,
            released_until: Some(until),
            ..self.new_backup(now)
        };
        self.resign(backup, "released by an operator")
    }

    /// Resigns, because another virtual router of the sync group yielded.
    pub fn yield_with_group(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        let backup = self.new_backup(now);
        self.resign(backup, cause)
    }

    /// A master lost its lease while its controller slept. Another balancer may be master by now;
    /// it stays master as far as priorities allow.
    pub fn lease_lost(&mut self, now: Micros) -> Vec<Action> {
        if self.role() != Role::Master || self.is_owner() {
            return Vec::new();
        }
        let backup = self.new_backup(now);
        self.become_backup(backup, "the lease expired while the controller slept")
    }

    /// Becomes master now, if it is backup. A master of higher priority takes the addresses back.
    pub fn take(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        if self.role() != Role::Backup || self.is_maintained {
            return Vec::new();
        }
        self.become_master(now, cause)
    }

    /// An operator sets or ends maintenance. A maintained instance resigns and stays backup.
    pub fn maintain(&mut self, is_maintained: bool, now: Micros) -> Vec<Action> {
        if self.is_maintained == is_maintained {
            return Vec::new();
        }
        self.is_maintained = is_maintained;
        let begun = self.new_backup(now);
        if let Some(backup) = self.backup_mut() {
            (backup.deadline, backup.master_interval) = (begun.deadline, begun.master_interval);
        }
        self.resign(begun, "maintained by an operator")
    }

    /// Follows changed parameters. The version does not change.
    pub fn change(&mut self, parameters: Parameters, now: Micros) -> Vec<Action> {
        let is_changed = self.parameters != parameters;
        self.parameters = parameters;
        match &mut self.state {
            // A backup that is better now takes over at once. All backups learn a changed interval
            // before it is used.
            State::Master(master) if is_changed => vec![master.advertise(&self.parameters, now)],
            State::Initialize | State::Backup(_) | State::Master(_) => Vec::new(),
        }
    }

    /// A backup that has heard nobody yet.
    fn new_backup(&self, now: Micros) -> Backup {
        let interval = self.parameters.interval;
        Backup::new(now, now + self.parameters.down_interval(interval), interval)
    }

    /// Sends an advert of priority 0 and becomes backup, if it is master.
    fn resign(&mut self, backup: Backup, cause: &str) -> Vec<Action> {
        if self.role() != Role::Master {
            return Vec::new();
        }
        let mut actions = vec![Action::SendAdvert(0)];
        actions.extend(self.become_backup(backup, cause));
        actions
    }

    fn become_backup(&mut self, backup: Backup, cause: &str) -> Vec<Action> {
        self.state = State::Backup(backup);
        vec![Action::Become(Role::Backup, cause.to_owned())]
    }

    fn become_master(&mut self, now: Micros, cause: &str) -> Vec<Action> {
        let is_served = self.backup().is_some_and(|backup| backup.hears_master(now));
        self.state = State::Master(Master::new(&self.parameters, now));
        let advert = Action::SendAdvert(self.parameters.priority);
        let became = Action::Become(Role::Master, cause.to_owned());
        if is_served {
            // The present master serves until it hears the advert: this balancer is ready before it
            // sends one.
            return vec![became, advert, Action::Announce];
        }
        vec![advert, became, Action::Announce]
    }
}
