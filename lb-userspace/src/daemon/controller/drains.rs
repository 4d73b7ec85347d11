//! Drains: follows the flows of drained and of removed backends until they have ended.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Controller;
use crate::{
    daemon::map_entries::MapEntries,
    events::{Happening, Kind},
    system::wall_clock,
};
use lb_core::overrides::Overrides;

/// Seconds for which a removed backend stays at least. Handshakes that are not in the flow table
/// yet may still find it.
const LEAST_STAY: i64 = 5;
/// How long it stays, as down, after its deadline. Silent clients are challenged several times.
const LINGER: SignedDuration = SignedDuration::from_secs(30);

impl Controller {
    /// Whether the flows of any backend must be followed.
    pub(super) fn is_draining(&self) -> bool {
        let active = self.active.borrow();
        !active.overrides.all_leaving().is_empty() || active.overrides.drains().next().is_some()
    }

    /// The time until the next deadline of a drain.
    pub(super) fn until_deadline(&self) -> Option<Duration> {
        let now = wall_clock::now();
        let next = self.active.borrow().overrides.next_deadline(now)?;
        Some(next.duration_since(now).unsigned_abs())
    }

    /// Ends the drains that are complete, and forgets removed backends whose flows have ended.
    pub(super) fn follow_drains(&mut self, now: Timestamp) {
        if !self.is_draining() {
            return;
        }
        let Ok(entries) = MapEntries::read(&self.tables) else {
            return;
        };
        let before = self.active.borrow().overrides.clone();
        let mut overrides = Overrides::clone(&before);
        self.end_drains(&mut overrides, &entries, now);
        self.forget_removed(&mut overrides, &entries, now);
        if overrides != *before {
            self.put_overrides(overrides);
        }
    }

    fn end_drains(&self, overrides: &mut Overrides, entries: &MapEntries, now: Timestamp) {
        let active = self.active.borrow().clone();
        let services = &active.config().services;
        for (id, deadline) in active.overrides.drains() {
            let service = services.iter().find(|service| service.name == id.service);
            let flows = service.and_then(|service| {
                let backend = service.backends.iter().find(|backend| backend.name == id.backend)?;
                entries.flows(&self.tables, service, backend.address)
            });
            if let Some(cause) = drain_end(flows.unwrap_or(0), deadline, now, self.started) {
                overrides.end_drain(id.clone());
                self.events
                    .record(Happening::new(Kind::DrainEnded, cause).of_backend(&id.service, &id.backend));
            }
        }
    }

    fn forget_removed(&self, overrides: &mut Overrides, entries: &MapEntries, now: Timestamp) {
        let active = self.active.borrow().clone();
        let services = &active.config().services;
        let gone = overrides.gone(|leaving| {
            let stayed = now.duration_since(leaving.since).as_secs() >= LEAST_STAY;
            let flows = services
                .iter()
                .find(|service| service.name == leaving.service)
                .and_then(|service| entries.flows(&self.tables, service, leaving.address))
                .unwrap_or(0);
            leaving.deadline + LINGER <= now || flows == 0 && stayed
        });
        for leaving in &gone {
            let cause = if leaving.deadline <= now {
                "removed from the configuration; the deadline has passed"
            } else {
                "removed from the configuration; no flows remain"
            };
            self.events
                .record(Happening::new(Kind::DrainEnded, cause).of_backend(&leaving.service, &leaving.backend));
        }
    }
}

/// Why a drain has ended; `None`: it has not. `started` is when the process started.
fn drain_end(flows: u64, deadline: Option<Timestamp>, now: Timestamp, started: Timestamp) -> Option<String> {
    let reached = match deadline.filter(|deadline| *deadline <= now) {
        None if flows == 0 => return Some("no flows remain".to_owned()),
        None => return None,
        Some(deadline) if deadline <= started => "the deadline passed while lbd did not run",
        Some(_) => "the deadline has passed",
    };
    Some(match flows {
        0 => format!("{reached}; no flows remain"),
        1 => format!("{reached}; `on_backend_down` decides about 1 remaining flow"),
        flows => format!("{reached}; `on_backend_down` decides about {flows} remaining flows"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_without_flows_or_at_its_deadline() {
        let at = |second| Timestamp::from_second(second).unwrap();
        // Started at 100. Flows, deadline and now, and the cause.
        let given_then: [(u64, Option<i64>, i64, Option<&str>); 7] = [
            (0, None, 101, Some("no flows remain")),
            (2, None, 1000, None),
            (2, Some(200), 199, None),
            (0, Some(200), 199, Some("no flows remain")),
            (
                1,
                Some(200),
                200,
                Some("the deadline has passed; `on_backend_down` decides about 1 remaining flow"),
            ),
            (0, Some(200), 201, Some("the deadline has passed; no flows remain")),
            (
                0,
                Some(99),
                101,
                Some("the deadline passed while lbd did not run; no flows remain"),
            ),
        ];
        for (flows, deadline, now, cause) in given_then {
            let end = drain_end(flows, deadline.map(at), at(now), at(100));
            assert_eq!(end.as_deref(), cause, "{flows} {deadline:?} {now}");
        }
    }
}
