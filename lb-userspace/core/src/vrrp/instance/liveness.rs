//! Liveness of a master whose adverts are missing: echoes to its packet path, and what the replies
//! mean.

use super::{Action, EchoReply, Micros, Parameters, backup::Backup};

/// Time between two echoes while adverts arrive, in microseconds. They resolve the link-layer
/// address of the master before it matters.
const HEALTHY_INTERVAL: Micros = 1_000_000;
/// Echoes sent before a master whose adverts are missing counts as gone.
const MIN_PROBES: u32 = 3;
/// Echoes without a reply after which a packet path that had replied counts as gone. They take at
/// least two advert intervals and 40 milliseconds: a busy machine may reply late.
const MAX_UNCONFIRMED: u32 = 8;
/// The least time between two echoes, in microseconds.
const MIN_INTERVAL: Micros = 5_000;

/// What echoes showed of the master's packet path.
#[derive(Clone, Debug, Default)]
pub(super) struct Liveness {
    /// When the next echo is due.
    next_probe: Option<Micros>,
    /// When the last echo was sent.
    last_probe: Option<Micros>,
    /// Echoes since the last advert.
    probes: u32,
    /// Echoes since the last reply that confirmed the lease. `None`: the lease is not confirmed.
    unconfirmed: Option<u32>,
    /// Whether the packet path replies, but the grace of its controller is over.
    pub(super) is_lease_over: bool,
}

impl Liveness {
    /// When the next echo is due.
    pub(super) fn next_probe(&self) -> Option<Micros> {
        self.next_probe
    }

    /// Whether the master's packet path confirmed its lease.
    pub(super) fn is_confirmed(&self) -> bool {
        self.unconfirmed.is_some()
    }

    /// An advert was heard: earlier replies mean nothing any longer.
    pub(super) fn advert_heard(&mut self) {
        (self.unconfirmed, self.is_lease_over, self.probes) = (None, false, 0);
    }

    /// Sends no more echoes.
    pub(super) fn stop_probing(&mut self) {
        self.next_probe = None;
    }
}

impl Backup {
    /// Time between two echoes while adverts are missing, in microseconds.
    pub(super) fn probe_interval(&self) -> Micros {
        (self.master_interval / 4).max(MIN_INTERVAL)
    }

    /// An advert came: sends an echo now and then, and the next one when the next advert is
    /// missing.
    pub(super) fn probe_healthy_master(&mut self, parameters: &Parameters, now: Micros) -> Vec<Action> {
        let last = self.liveness.last_probe;
        let is_due = last.is_none_or(|last| now >= last + HEALTHY_INTERVAL);
        let actions = if is_due {
            self.probe(parameters, now)
        } else {
            Vec::new()
        };
        // A reply to this echo says nothing about missing adverts.
        self.liveness.probes = 0;
        self.liveness.next_probe = Some(now + self.master_interval * 3 / 2);
        actions
    }

    /// Sends an echo, if one is due.
    pub(super) fn probe_if_due(&mut self, parameters: &Parameters, now: Micros) -> Vec<Action> {
        match self.liveness.next_probe {
            Some(due) if due <= now => self.probe(parameters, now),
            _ => Vec::new(),
        }
    }

    /// Sends an echo to the packet path of the master.
    pub(super) fn probe(&mut self, parameters: &Parameters, now: Micros) -> Vec<Action> {
        let Some(master) = self.master else {
            self.liveness.next_probe = None;
            return Vec::new();
        };
        self.liveness.probes += 1;
        if let Some(unconfirmed) = self.liveness.unconfirmed {
            let is_gone = unconfirmed >= MAX_UNCONFIRMED;
            self.liveness.unconfirmed = (!is_gone).then_some(unconfirmed + 1);
            if is_gone {
                self.let_better_backups_first(parameters, now);
            }
        }
        let next = now + self.probe_interval();
        (self.liveness.last_probe, self.liveness.next_probe) = (Some(now), Some(next));
        if self.liveness.probes <= MIN_PROBES {
            // A balancer that slept sends echoes before it takes over.
            self.postpone(next);
        }
        vec![Action::SendEcho(master.address)]
    }

    /// Whether the master had no time to reply yet.
    pub(super) fn needs_more_probes(&self, parameters: &Parameters) -> bool {
        let is_probed = self.master.is_some() && self.liveness.next_probe.is_some();
        parameters.grace != 0 && is_probed && self.liveness.probes < MIN_PROBES
    }

    /// Handles the reply of a packet path.
    pub(super) fn handle_echo_reply(&mut self, parameters: &Parameters, reply: EchoReply, now: Micros) {
        let is_master = self.master.is_some_and(|master| master.address == reply.from);
        // A reply that no further echo follows, such as one to an earlier echo, would delay the
        // takeover for ever.
        let is_probing = self.liveness.next_probe.is_some() && self.liveness.probes > 0;
        if !is_master || !is_probing {
            return;
        }
        let was_confirmed = self.liveness.is_confirmed();
        let is_confirmed = reply.holds_lease && reply.lease_age <= parameters.grace;
        self.liveness.unconfirmed = is_confirmed.then_some(0);
        self.liveness.is_lease_over = reply.holds_lease && !is_confirmed;
        if was_confirmed && self.liveness.is_lease_over {
            // The grace ended at the same time for all backups. Each sees it at its own next echo.
            let ago = reply.lease_age - parameters.grace;
            let from = (now + self.probe_interval()).saturating_sub(ago).max(now);
            self.let_better_backups_first(parameters, from);
        } else if was_confirmed && !is_confirmed {
            self.let_better_backups_first(parameters, now);
        }
    }

    /// Postpones the takeover by the skew time: several backups may have waited beyond the down
    /// interval.
    fn let_better_backups_first(&mut self, parameters: &Parameters, now: Micros) {
        self.postpone(now + parameters.skew_time(self.master_interval));
    }
}
