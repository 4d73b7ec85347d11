//! Whether the maps have room for what the file asks for.

use lb_common::{Scheduler, service::Ring};
use toml::Spanned;

use super::{
    Capacity, Service,
    finding::{Findings, Problem, Span},
    raw,
    words::Word,
};

/// The most backends of a service with `least-connection`: all of them are compared for each new flow.
const MOST_COMPARED: usize = 256;

/// A valid service and where it stands in the file.
pub(super) type Placed = (Span, Service);

/// Checks that `services` fit into `capacity`. `raw` tells which of the sizes the file gives itself.
pub(super) fn check(raw: &raw::Capacity, capacity: &Capacity, services: &[Placed], findings: &mut Findings) {
    for (span, service) in services {
        check_scheduler(span, service, findings);
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

fn check_scheduler(span: &Span, service: &Service, findings: &mut Findings) {
    let compared = service.backends.len();
    let scheduler = service.scheduler.word();
    if service.scheduler == Scheduler::LeastConnection && compared > MOST_COMPARED {
        let problem = format!(
            "the service \"{}\" has {compared} backends with the scheduler \"{scheduler}\"",
            service.name
        );
        let expected = format!(
            "at most {MOST_COMPARED} backends, or the scheduler \"{}\"",
            Scheduler::RoundRobin.word()
        );
        findings.add(span.clone(), Problem::new(problem, expected));
    }
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
    let weights = service
        .backends
        .iter()
        .map(|backend| u64::from(backend.weight))
        .filter(|weight| *weight > 0);
    match service.scheduler {
        Scheduler::LeastConnection => weights.count() as u64,
        Scheduler::RoundRobin => {
            let divisor = weights.clone().fold(0, common_divisor);
            weights.sum::<u64>() / divisor.max(1)
        }
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
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
