//! The state Backup: listens for adverts (RFC 9568, section 6.4.2).

use std::net::IpAddr;

use super::{Action, Micros, Parameters, liveness::Liveness};
use crate::vrrp::advert::Advert;

/// What a backup knows.
#[derive(Clone, Debug)]
pub(super) struct Backup {
    /// When this state began.
    pub(super) since: Micros,
    /// When this balancer takes over: the Active_Down_Timer of RFC 9568.
    pub(super) deadline: Micros,
    /// Interval of the master's adverts, in microseconds: Active_Adver_Interval of RFC 9568.
    pub(super) master_interval: Micros,
    /// The master that is heard. Of two masters, the better one.
    pub(super) master: Option<HeardMaster>,
    /// The last master that resigned.
    pub(super) resigned: Option<IpAddr>,
    /// Since when a master of lower priority is heard.
    pub(super) lower_since: Option<Micros>,
    /// Until when this balancer does not preempt, because an operator released the addresses.
    pub(super) released_until: Option<Micros>,
    /// What echoes showed of the master's packet path.
    pub(super) liveness: Liveness,
}

/// A master whose adverts are heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeardMaster {
    /// Source address of its adverts.
    pub(super) address: IpAddr,
    /// Priority in its last advert.
    pub(super) priority: u8,
    /// When its last advert came.
    pub(super) heard: Micros,
}

impl Backup {
    /// A backup that begins now, has heard nobody yet, and takes over at `deadline`.
    pub(super) fn new(now: Micros, deadline: Micros, master_interval: Micros) -> Self {
        Self {
            since: now,
            deadline,
            master_interval,
            master: None,
            resigned: None,
            lower_since: None,
            released_until: None,
            liveness: Liveness::default(),
        }
    }

    /// When this balancer takes over. `None`: only echoes decide.
    pub(super) fn takeover_at(&self) -> Option<Micros> {
        // Lost echo replies end the wait, not the time: this balancer may be the one that stalls.
        (!self.liveness.is_confirmed()).then_some(self.deadline)
    }

    /// Postpones the takeover to `until`, if it is earlier.
    pub(super) fn postpone(&mut self, until: Micros) {
        self.deadline = self.deadline.max(until);
    }

    /// Whether adverts of a master still arrive.
    pub(super) fn hears_master(&self, now: Micros) -> bool {
        self.master
            .is_some_and(|master| now <= master.heard + 3 * self.master_interval)
    }

    /// Whether the master's adverts are missing, and only its packet path replies.
    pub(super) fn is_in_grace(&self, parameters: &Parameters, now: Micros) -> bool {
        // A sync group may wait longer than the down interval, because of another virtual router's
        // master.
        let is_overdue = |master: HeardMaster| now >= master.heard + parameters.down_interval(self.master_interval);
        self.liveness.is_confirmed() && self.master.is_some_and(is_overdue)
    }

    /// Whether `other` is the master, as far as this balancer knows.
    pub(super) fn follows(&self, other: IpAddr) -> bool {
        self.master.is_none_or(|master| master.address == other)
    }

    /// Why this balancer takes over now.
    pub(super) fn takeover_cause(&self, now: Micros) -> String {
        match (self.master, self.resigned) {
            (Some(master), _) if self.hears_master(now) => {
                format!("preempted {} (priority {})", master.address, master.priority)
            }
            (Some(master), _) if self.liveness.is_lease_over => {
                format!("the controller of {} did not return", master.address)
            }
            (Some(master), _) => {
                let silence = rounded(now.saturating_sub(master.heard));
                format!("no adverts from {} for {silence}", master.address)
            }
            (None, Some(former)) => format!("{former} resigned"),
            (None, None) => format!("no adverts for {}", rounded(now.saturating_sub(self.since))),
        }
    }

    /// Handles an advert.
    pub(super) fn handle_advert(
        &mut self,
        parameters: &Parameters,
        from: IpAddr,
        advert: &Advert,
        now: Micros,
    ) -> Vec<Action> {
        if advert.priority == 0 {
            // "If the Priority in the ADVERTISEMENT is 0, then: Set the Active_Down_Timer to
            // Skew_Time". If there are two masters, the resignation of one does not concern the
            // other.
            if self.follows(from) {
                self.master_resigned(parameters, now);
                self.resigned = Some(from);
            }
            return Vec::new();
        }
        self.note_master(from, advert.priority, now);
        if self.preempts_now(parameters, advert.priority, now) {
            // "else: Discard the ADVERTISEMENT": the timer keeps running.
            self.liveness.stop_probing();
            return Vec::new();
        }
        // "If Preempt_Mode is False, or if the Priority in the ADVERTISEMENT is greater than or
        // equal to the local Priority, then: Set Active_Adver_Interval to Max Advertise Interval
        // contained in the ADVERTISEMENT; [...] Reset the Active_Down_Timer to
        // Active_Down_Interval".
        self.master_interval = advert.interval.max(1);
        self.deadline = now + parameters.down_interval(self.master_interval);
        if parameters.grace == 0 {
            return Vec::new();
        }
        self.probe_healthy_master(parameters, now)
    }

    /// Notes the sender as master, unless a better master is heard too.
    fn note_master(&mut self, from: IpAddr, priority: u8, now: Micros) {
        let is_kept = self.master.is_some_and(|master| {
            let is_fresh = now <= master.heard + 2 * self.master_interval;
            let is_better = master.address != from && (master.priority, master.address) > (priority, from);
            is_fresh && is_better
        });
        if !is_kept {
            self.master = Some(HeardMaster {
                address: from,
                priority,
                heard: now,
            });
        }
        self.liveness.advert_heard();
    }

    /// Whether this balancer takes over from a master of that priority when the timer expires.
    fn preempts_now(&mut self, parameters: &Parameters, priority: u8, now: Micros) -> bool {
        if !parameters.preempts(priority) {
            self.lower_since = None;
            return false;
        }
        if self.released_until.is_some_and(|until| now < until) {
            return false;
        }
        let since = *self.lower_since.get_or_insert(now);
        now.saturating_sub(since) >= parameters.preempt_delay
    }

    /// The master resigned: the takeover follows after the skew time.
    pub(super) fn master_resigned(&mut self, parameters: &Parameters, now: Micros) {
        self.resigned = self.master.take().map(|master| master.address).or(self.resigned);
        self.liveness = Liveness::default();
        self.released_until = self.released_until.filter(|until| *until > now);
        let soon = now + parameters.skew_time(self.master_interval);
        // A balancer that an operator released lets all others go first.
        let last = |until: Micros| until.min(soon + self.master_interval);
        self.deadline = self.released_until.map_or(soon, last);
    }
}

/// A time with the precision that a reader needs.
fn rounded(time: Micros) -> String {
    if time < 1_000_000 {
        return format!("{} ms", time / 1000);
    }
    format!("{:.1} s", time as f64 / 1e6)
}
