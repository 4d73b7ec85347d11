//! Whether the maps have room for what the file asks for.

use lb_common::{maps, service::Ring};
use toml::Spanned;

use super::{
    Capacity, Service,
    finding::{Findings, Problem, Span},
    raw,
};
use crate::schedule::{ramp, ring_length};

/// A valid service and where it stands in the file.
pub(super) type Placed = (Span, Service);

/// Checks that `services` fit into `capacity`. `raw` tells which of the sizes the file gives itself.
pub(super) fn check(raw: &raw::Capacity, capacity: &Capacity, services: &[Placed], findings: &mut Findings) {
    for (span, service) in services {
        check_weights(span, service, findings);
    }
    for fixed in FIXED {
        fixed.check(services, findings);
    }
    let backends = |service: &Service| service.backends.len() as u64;
    let mut size = |key, given, capacity, needed: &dyn Fn(&Service) -> u64| {
        Size { key, given, capacity }.check(services, needed, findings);
    };
    size("services", &raw.services, capacity.services, &|_| 1);
    size("backends", &raw.backends, capacity.backends, &backends);
    // A new ring is written beside the old one: twice the slots in use.
    size("ring_slots", &raw.ring_slots, capacity.ring_slots, &|service| {
        2 * ring_slots(service)
    });
}

fn check_weights(span: &Span, service: &Service, findings: &mut Findings) {
    let slots = ring_slots(service);
    if slots > u64::from(Ring::MAX_LENGTH) {
        let problem = format!(
            "the weights of the service \"{}\" need a ring of {slots} slots",
            service.name
        );
        let expected = format!(
            "at most {} slots: weights with a common divisor need fewer",
            Ring::MAX_LENGTH
        );
        findings.add(span.clone(), Problem::new(problem, expected));
    }
}

/// The slots of the ring of `service` with all its backends up; with some of them down it is never longer.
fn ring_slots(service: &Service) -> u64 {
    let weights = |fallback: bool| {
        let backends = service.backends.iter();
        backends
            .filter(move |backend| backend.fallback == fallback)
            .map(|backend| backend.weight)
    };
    let ordinary = if service.slow_start.is_zero() {
        ring_length(service.scheduler, weights(false))
    } else {
        ramp::longest(service.scheduler, weights(false))
    };
    ordinary.max(ring_length(service.scheduler, weights(true)))
}

/// Entries of maps whose sizes are fixed.
struct Fixed {
    /// The map of IPv4; that of IPv6 is as large.
    map: maps::Map,
    what: &'static str,
    needed: fn(&Service) -> u64,
}

/// A change writes the new entries before it removes the old ones.
const FIXED: [Fixed; 2] = [
    Fixed {
        map: maps::PORT_RANGES_V4,
        what: "blocks of ports, which a range takes up to 30 of",
        needed: |service| {
            let several = service.ports.count() > 1;
            if several {
                2 * service.ports.blocks().len() as u64
            } else {
                0
            }
        },
    },
    Fixed {
        map: maps::GUARDS_V4,
        what: "allowed and denied prefixes",
        needed: |service| 2 * (service.guard.allow.len() + service.guard.deny.len()) as u64,
    },
];

impl Fixed {
    /// Points to the first service that is too much.
    fn check(&self, services: &[Placed], findings: &mut Findings) {
        for v4 in [true, false] {
            let mut total = 0;
            for (span, service) in services.iter().filter(|(_, service)| service.address.is_ipv4() == v4) {
                total += (self.needed)(service);
                if total > self.map.capacity as u64 {
                    let problem = format!("the services up to \"{}\" have too many {}", service.name, self.what);
                    let expected = format!("at most {} for all services of a family", self.map.capacity / 2);
                    findings.add(span.clone(), Problem::new(problem, expected));
                    break;
                }
            }
        }
    }
}

/// One of the sizes.
struct Size<'a> {
    key: &'static str,
    given: &'a raw::Given<raw::Number>,
    capacity: u32,
}

impl Size<'_> {
    /// Points to the size where the file gives it, else to the first service that is too much.
    fn check(&self, services: &[Placed], needed: &dyn Fn(&Service) -> u64, findings: &mut Findings) {
        let mut total = 0;
        let mut first_too_much = None;
        for (span, service) in services {
            total += needed(service);
            if total > u64::from(self.capacity) {
                first_too_much.get_or_insert(span);
            }
        }
        if let Some(service) = first_too_much {
            let span = self.given.as_ref().map_or_else(|| service.clone(), Spanned::span);
            let problem = format!(
                "the file needs {total} {}, and there is room for {}",
                self.key, self.capacity
            );
            findings.add(
                span,
                Problem::new(
                    problem,
                    format!("`{}` in `[node.capacity]` of at least {total}", self.key),
                ),
            );
        }
    }
}
