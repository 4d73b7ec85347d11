//! The difference between what the maps hold and what they should hold, as writes in an order that is right at every
//! instant: a service never refers to a ring or a backend that is not written, and nothing is reused that a packet
//! under way may still see.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use lb_common::{
    Backend, BackendState, BackendStatus, Be16, NextHop, Ring, RingSlot, Service, family::address, service::MAX_SOURCES,
};

use super::{
    Desired, Observed,
    desired::{DesiredBackend, DesiredService},
    ring_space::RingSpace,
};
use crate::{dataplane::VirtualAddress, schedule};

#[allow(missing_docs, reason = "the fields of all steps say what they are")]
/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fill an unused backend entry.
    FillBackend { index: u32, entry: Backend },
    /// Change state, generation and port of a backend.
    SetBackendStatus { index: u32, status: BackendStatus },
    /// Replace the next hop of a backend.
    SetNextHop { index: u32, hop: NextHop },
    /// Write a ring where none in use is.
    FillRing { offset: u32, slots: Vec<RingSlot> },
    /// Fill an unused service entry.
    FillService { index: u32, entry: Service },
    /// Change all of a service but its ring.
    UpdateService { index: u32, entry: Service },
    /// Switch a service to another ring.
    SetRing { index: u32, ring: Ring },
    /// Let packets find a service.
    List { at: VirtualAddress, index: u32 },
    /// Let packets find a service no more.
    Unlist { at: VirtualAddress },
    /// Wait until no packet under way can have seen what was before.
    Settle,
}

/// The writes, and what could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of application.
    pub steps: Vec<Step>,
    /// Sentences for the operator.
    pub problems: Vec<String>,
}

/// The writes that turn `observed` into `desired`.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut planner = Planner::new(observed);
    for service in &desired.services {
        planner.service(service);
    }
    planner.remove_the_rest();
    planner.finish()
}

/// Writes by the phase that they belong to, and what of the maps is taken.
struct Planner<'a> {
    observed: &'a Observed,
    by_address: HashMap<VirtualAddress, u32>,
    backends_of: HashMap<(u32, SocketAddr), u32>,
    relisted: HashSet<VirtualAddress>,
    kept_services: Vec<u32>,
    kept_backends: Vec<u32>,
    free_services: Box<dyn Iterator<Item = u32> + 'a>,
    free_backends: Box<dyn Iterator<Item = u32> + 'a>,
    ring_space: RingSpace,
    /// Next hops, new backends, backends that come up; new rings.
    prepare: Vec<Step>,
    /// Services and their rings.
    switch: Vec<Step>,
    /// Backends that go down, entries that are emptied: after no new flow can choose them.
    lower: Vec<Step>,
    /// Whether something was let go that a later plan may use again.
    released: bool,
    problems: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Observed) -> Self {
        let mut by_address = HashMap::new();
        for (index, service) in &observed.services {
            if let Some(at) = address_of(service) {
                // Of two entries for one address, which a crash may leave, the one that packets find counts.
                let listed = observed.listed.get(&at) == Some(index);
                if listed || !by_address.contains_key(&at) {
                    by_address.insert(at, *index);
                }
            }
        }
        let in_use = |backend: &&Backend| backend.status.state() != BackendState::Free;
        let backends_of = observed
            .backends
            .iter()
            .filter(|(_, backend)| in_use(backend))
            .filter_map(|(index, backend)| {
                let address = address::from_words(backend.status.family(), backend.address)?;
                Some((
                    (backend.service, SocketAddr::new(address, backend.status.port().host())),
                    *index,
                ))
            })
            .collect();
        // Entries that never were in use go first, so that flows of a former backend have time to leave.
        let room = observed.room;
        let never = (0..room.backends).filter(|index| !observed.backends.contains_key(index));
        let former = observed
            .backends
            .iter()
            .filter(move |(_, backend)| !in_use(backend))
            .map(|(index, _)| *index);
        let rings = observed
            .services
            .values()
            .map(|service| (service.ring.offset(), service.ring.length()));
        Self {
            observed,
            by_address,
            backends_of,
            relisted: HashSet::new(),
            kept_services: Vec::new(),
            kept_backends: Vec::new(),
            free_services: Box::new((0..room.services).filter(|index| !observed.services.contains_key(index))),
            free_backends: Box::new(never.chain(former)),
            ring_space: RingSpace::new(room.ring_slots, rings),
            prepare: Vec::new(),
            switch: Vec::new(),
            lower: Vec::new(),
            released: false,
            problems: Vec::new(),
        }
    }

    fn service(&mut self, desired: &DesiredService) {
        let known = self.by_address.get(&desired.at).copied();
        let Some(index) = known.or_else(|| self.free_services.next()) else {
            self.problems.push(format!(
                "no room for service {}: the map holds {} services",
                desired.at.address, self.observed.room.services
            ));
            return;
        };
        self.kept_services.push(index);
        let members: Vec<_> = desired
            .backends
            .iter()
            .filter_map(|backend| self.backend(index, backend))
            .collect();
        let slots = schedule::ring(desired.scheduler, &members);
        let ring = self.ring(index, desired, slots);
        let entry = service_entry(desired, ring);
        match known.and_then(|index| self.observed.services.get(&index)) {
            None => self.switch.push(Step::FillService { index, entry }),
            Some(now) => {
                if (Service {
                    ring: entry.ring,
                    ..*now
                }) != entry
                {
                    self.switch.push(Step::UpdateService { index, entry });
                }
                if now.ring != entry.ring {
                    self.released |= now.ring.length() > 0;
                    self.switch.push(Step::SetRing { index, ring });
                }
            }
        }
        if self.observed.listed.get(&desired.at) != Some(&index) {
            self.relisted.insert(desired.at);
            self.switch.push(Step::List { at: desired.at, index });
        }
    }

    /// Plans a backend; returns index and weight when it takes new flows.
    fn backend(&mut self, service: u32, desired: &DesiredBackend) -> Option<(u32, u32)> {
        let known = self.backends_of.get(&(service, desired.address)).copied();
        let Some(index) = known.or_else(|| self.free_backends.next()) else {
            self.problems.push(format!(
                "no room for backend {}: the map holds {} backends",
                desired.address, self.observed.room.backends
            ));
            return None;
        };
        self.kept_backends.push(index);
        let before = self.observed.backends.get(&index).map(|backend| backend.status);
        let hop = desired.next_hop.unwrap_or(NextHop::ZERO);
        let state = match (known, desired.state, before) {
            (_, Some(state), _) => state,
            (Some(_), None, Some(before)) => before.state(),
            _ => BackendState::Draining,
        };
        match (known, before) {
            (Some(_), Some(before)) => {
                if self.observed.next_hops.get(&index) != Some(&hop) {
                    self.prepare.push(Step::SetNextHop { index, hop });
                }
                if before.state() != state {
                    // Down comes after the ring has let go of it; up comes before the ring takes it.
                    let phase = if state == BackendState::Down {
                        &mut self.lower
                    } else {
                        &mut self.prepare
                    };
                    phase.push(Step::SetBackendStatus {
                        index,
                        status: before.with_state(state),
                    });
                }
            }
            _ => {
                let generation = before.map_or(1, BackendStatus::generation);
                let entry = backend_entry(service, index, desired.address, state, generation);
                self.prepare.push(Step::SetNextHop { index, hop });
                self.prepare.push(Step::FillBackend { index, entry });
            }
        }
        (state == BackendState::Up).then_some((index, desired.weight))
    }

    /// The ring word of a service: the one it has when its slots are right, else a new one.
    fn ring(&mut self, index: u32, desired: &DesiredService, slots: Vec<RingSlot>) -> Ring {
        let now = self.observed.services.get(&index).map(|service| service.ring);
        if let (Some(now), Some(present)) = (now, self.observed.rings.get(&index))
            && *present == slots
        {
            return Ring::new(desired.scheduler, now.offset(), now.length());
        }
        let length = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let place = if length <= Ring::MAX_LENGTH {
            self.ring_space.take(length)
        } else {
            None
        };
        let Some(offset) = place else {
            self.problems.push(format!(
                "no room for the {length} ring slots of service {}: the map holds {} for all services",
                desired.at.address, self.observed.room.ring_slots
            ));
            return now.unwrap_or(Ring::new(desired.scheduler, 0, 0));
        };
        if length > 0 {
            self.prepare.push(Step::FillRing { offset, slots });
        }
        Ring::new(desired.scheduler, offset, length)
    }

    /// Plans the removal of what was not asked for.
    fn remove_the_rest(&mut self) {
        self.kept_services.sort_unstable();
        self.kept_backends.sort_unstable();
        for (at, index) in &self.observed.listed {
            let wrong = self.kept_services.binary_search(index).is_err()
                || self.observed.services.get(index).and_then(address_of) != Some(*at);
            if wrong && !self.relisted.contains(at) {
                self.switch.push(Step::Unlist { at: *at });
            }
        }
        for index in self.observed.services.keys() {
            if self.kept_services.binary_search(index).is_err() {
                self.released = true;
                self.lower.push(Step::SetRing {
                    index: *index,
                    ring: Ring(0),
                });
            }
        }
        for (index, backend) in &self.observed.backends {
            let status = backend.status;
            if status.state() != BackendState::Free && self.kept_backends.binary_search(index).is_err() {
                self.released = true;
                self.lower.push(Step::SetBackendStatus {
                    index: *index,
                    status: status.freed(),
                });
            }
        }
    }

    fn finish(self) -> Plan {
        let mut steps = self.prepare;
        steps.extend(self.switch);
        if !self.lower.is_empty() {
            // A packet that chose a backend by the old ring has sent its flow's first packet before that goes down.
            steps.push(Step::Settle);
        }
        let lowered = !self.lower.is_empty();
        steps.extend(self.lower);
        if self.released && (lowered || !steps.is_empty()) {
            // The next plan may use again what this one let go.
            steps.push(Step::Settle);
        }
        Plan {
            steps,
            problems: self.problems,
        }
    }
}

fn address_of(service: &Service) -> Option<VirtualAddress> {
    Some(VirtualAddress {
        address: address::from_words(service.family, service.address)?,
        port: service.port.host(),
        protocol: service.protocol,
    })
}

fn service_entry(desired: &DesiredService, ring: Ring) -> Service {
    let mut sources = [[0; 4]; MAX_SOURCES];
    for (words, source) in sources.iter_mut().zip(&desired.sources) {
        *words = address::to_words(*source);
    }
    Service {
        ring,
        on_backend_down: desired.on_backend_down as u8,
        mode: desired.mode as u8,
        family: address::family(desired.at.address),
        protocol: desired.at.protocol,
        nat_port_low: desired.nat_ports.low,
        nat_port_count: u16::try_from(desired.nat_ports.count()).unwrap_or(u16::MAX),
        port: Be16::from_host(desired.at.port),
        last_port: Be16::from_host(desired.at.port),
        source_count: desired.sources.len().min(MAX_SOURCES) as u32,
        address: address::to_words(desired.at.address),
        sources,
        ..Service::ZERO
    }
}

fn backend_entry(service: u32, index: u32, at: SocketAddr, state: BackendState, generation: u32) -> Backend {
    Backend {
        status: BackendStatus::new(state, generation, address::family(at.ip()), Be16::from_host(at.port())),
        service,
        // Each backend has the next hop of its own index.
        next_hop: index,
        address: address::to_words(at.ip()),
        ..Backend::ZERO
    }
}
