//! Checks that the services of a file fit into the maps.

use lb_common::{maps, service::Ring};
use toml::Spanned;

use super::{
    Capacity, Service,
    diagnostics::{Diagnostics, Message, Span},
    raw,
};
use crate::schedule::{ramp, ring_length};

/// A valid service and its place in the file.
pub(super) type Placed = (Span, Service);

/// Checks that `services` fit into `capacity`. `raw` has the sizes that the file sets itself.
pub(super) fn check(raw: &raw::Capacity, capacity: &Capacity, services: &[Placed], diagnostics: &mut Diagnostics) {
    for (span, service) in services {
        check_weights(span, service, diagnostics);
    }
    for map in FIXED_MAPS {
        map.check(services, diagnostics);
    }
    let backends = |service: &Service| service.backends.len() as u64;
    let mut size = |key, given, capacity, needed: &dyn Fn(&Service) -> u64| {
        SizedMap { key, given, capacity }.check(services, needed, diagnostics);
    };
    size("services", &raw.services, capacity.services, &|_| 1);
    size("backends", &raw.backends, capacity.backends, &backends);
    // A new ring is written beside the old one: twice the slots in use.
    size("ring_slots", &raw.ring_slots, capacity.ring_slots, &|service| {
        2 * ring_slots(service)
    });
}

fn check_weights(span: &Span, service: &Service, diagnostics: &mut Diagnostics) {
    let slots = ring_slots(service);
    if slots > u64::from(Ring::MAX_LENGTH) {
        let problem = format!(
            "the weights of the service \"{}\" need a ring of {slots} slots",
            service.name
        );
        let expected = format!(
            "at most {} slots (weights with a common divisor need fewer)",
            Ring::MAX_LENGTH
        );
        diagnostics.add(span.clone(), Message::new(problem, expected));
    }
}

/// Length of the ring of `service` while all its backends are up, in slots. It is never longer
/// while some are down.
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

/// A pair of maps whose size is not configurable.
struct FixedMap {
    /// The map for IPv4. The one for IPv6 has the same size.
    map: maps::Map,
    /// What its entries are, in the plural.
    what: &'static str,
    /// How many entries a service needs.
    needed: fn(&Service) -> u64,
}

/// Twice the entries: a reload writes the new entries before it removes the old ones.
const FIXED_MAPS: [FixedMap; 2] = [
    FixedMap {
        map: maps::PORT_RANGES_V4,
        what: "blocks of ports (a range takes up to 30)",
        needed: |service| {
            let several = service.ports.count() > 1;
            if several {
                2 * service.ports.blocks().len() as u64
            } else {
                0
            }
        },
    },
    FixedMap {
        map: maps::GUARDS_V4,
        what: "allowed and denied prefixes",
        needed: |service| 2 * (service.guard.allow.len() + service.guard.deny.len()) as u64,
    },
];

impl FixedMap {
    /// Adds a diagnostic at the first service that does not fit.
    fn check(&self, services: &[Placed], diagnostics: &mut Diagnostics) {
        for v4 in [true, false] {
            let mut total = 0;
            for (span, service) in services.iter().filter(|(_, service)| service.address.is_ipv4() == v4) {
                total += (self.needed)(service);
                if total > self.map.capacity as u64 {
                    let problem = format!("the services up to \"{}\" have too many {}", service.name, self.what);
                    let expected = format!("at most {} for all services of a family", self.map.capacity / 2);
                    diagnostics.add(span.clone(), Message::new(problem, expected));
                    break;
                }
            }
        }
    }
}

/// A map whose size is configurable.
struct SizedMap<'a> {
    /// Key in `[node.capacity]`.
    key: &'static str,
    given: &'a raw::Given<raw::Number>,
    /// Size in force: given or default.
    capacity: u32,
}

impl SizedMap<'_> {
    /// Adds a diagnostic at the size if the file sets it, else at the first service that does not
    /// fit.
    fn check(&self, services: &[Placed], needed: &dyn Fn(&Service) -> u64, diagnostics: &mut Diagnostics) {
        let mut total = 0;
        let mut first_too_many = None;
        for (span, service) in services {
            total += needed(service);
            if total > u64::from(self.capacity) {
                first_too_many.get_or_insert(span);
            }
        }
        if let Some(service) = first_too_many {
            let span = self.given.as_ref().map_or_else(|| service.clone(), Spanned::span);
            let problem = format!(
                "the file needs {total} {}, but the capacity is {}",
                self.key, self.capacity
            );
            diagnostics.add(
                span,
                Message::new(
                    problem,
                    format!("`{}` = at least {total} in `[node.capacity]`", self.key),
                ),
            );
        }
    }
}
