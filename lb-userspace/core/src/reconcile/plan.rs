//! The plan: the writes that turn the observed state into the desired one. Their order is valid at
//! every moment: a service never refers to a ring or backend that is not written, and nothing is
//! reused that a packet in flight may still see.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
};

use lb_common::{Backend, BackendState, BackendStatus, NextHop, Ring, RingSlot, Service};

use super::{
    Desired, Observed,
    classes::{Classes, classes},
    desired::{DesiredBackend, DesiredService},
    entries::{self, Front, front},
    ring_space::RingSpace,
};
use crate::{
    reconcile::{GuardVerdict, Guarded, Listing},
    schedule::{self, Member, RingCache},
};

#[allow(missing_docs, reason = "the names of the fields say it")]
/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fill an unused backend entry.
    FillBackend { index: u32, entry: Backend },
    /// Change state, generation and port of a backend.
    SetBackendStatus { index: u32, status: BackendStatus },
    /// Replace the next hop of a backend.
    SetNextHop { index: u32, hop: NextHop },
    /// Write a ring into unused slots.
    FillRing { offset: u32, slots: Vec<RingSlot> },
    /// Fill an unused service entry.
    FillService { index: u32, entry: Service },
    /// Change everything of a service but its ring.
    UpdateService { index: u32, entry: Service },
    /// Switch a service to another ring.
    SetRing { index: u32, ring: Ring },
    /// Add a listing.
    List { listing: Listing, index: u32 },
    /// Remove a listing.
    Unlist { listing: Listing },
    /// Write a word of the table of address classes.
    SetClasses { index: u32, word: u64 },
    /// Set what a service does with a source prefix.
    SetGuard { guarded: Guarded, verdict: GuardVerdict },
    /// Remove a source prefix from the lists of a service.
    RemoveGuard { guarded: Guarded },
    /// Wait until no packet in flight can have seen the former state.
    Settle,
}

/// The writes, and what is impossible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The writes, in the order of application.
    pub steps: Vec<Step>,
    /// What does not fit, each as a sentence for the operator.
    pub problems: Vec<String>,
}

/// The plan that turns `observed` into `desired`.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    plan_with(desired, observed, &mut RingCache::default())
}

/// The same, but rings whose members did not change since the last call with the same `known` are
/// not computed again.
pub fn plan_with(desired: &Desired, observed: &Observed, known: &mut RingCache) -> Plan {
    let mut planner = Planner::new(observed, known);
    planner.classes(&classes(desired));
    for service in &desired.services {
        planner.service(service);
    }
    planner.remove_the_rest();
    planner.finish()
}

/// The steps by phase, and the parts of the maps that are in use.
struct Planner<'a> {
    observed: &'a Observed,
    by_front: HashMap<Front, u32>,
    backends_of: HashMap<(u32, SocketAddr), Vec<u32>>,
    listed: HashSet<Listing>,
    guarded: HashSet<Guarded>,
    kept_services: Vec<u32>,
    kept_backends: Vec<u32>,
    free_services: Box<dyn Iterator<Item = u32> + 'a>,
    free_backends: Box<dyn Iterator<Item = u32> + 'a>,
    ring_space: RingSpace,
    ring_cache: &'a mut RingCache,
    /// Classes that are added; list entries of former services.
    first: Vec<Step>,
    /// Next hops; new backends; backends that come up; new rings; new list entries.
    prepare: Vec<Step>,
    /// Services, their rings, their listings.
    switch: Vec<Step>,
    /// Backends that go down and entries that are freed, once no new flow can select them. List
    /// entries and classes that are removed.
    lower: Vec<Step>,
    /// Whether something was freed that a later plan may use again.
    released: bool,
    problems: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Observed, ring_cache: &'a mut RingCache) -> Self {
        let mut by_front = HashMap::new();
        let found: HashSet<u32> = observed.listed.values().copied().collect();
        for (index, service) in &observed.services {
            if let Some(front) = front(service) {
                // A crash may leave two entries for one address: the one that packets find counts.
                if found.contains(index) || !by_front.contains_key(&front) {
                    by_front.insert(front, *index);
                }
            }
        }
        let in_use = |backend: &&Backend| backend.status.state() != BackendState::Free;
        let mut backends_of: HashMap<_, Vec<u32>> = HashMap::new();
        for (index, backend) in observed.backends.iter().filter(|(_, backend)| in_use(backend)) {
            if let Some(address) = entries::backend_address(backend) {
                backends_of.entry((backend.service, address)).or_default().push(*index);
            }
        }
        // Entries that were never used come first, so that flows of former backends have time to
        // end.
        let capacity = observed.capacity;
        let never = (0..capacity.backends).filter(|index| !observed.backends.contains_key(index));
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
            by_front,
            backends_of,
            listed: HashSet::new(),
            guarded: HashSet::new(),
            kept_services: Vec::new(),
            kept_backends: Vec::new(),
            free_services: Box::new((0..capacity.services).filter(|index| !observed.services.contains_key(index))),
            free_backends: Box::new(never.chain(former)),
            ring_space: RingSpace::new(capacity.ring_slots, rings),
            ring_cache,
            first: Vec::new(),
            prepare: Vec::new(),
            switch: Vec::new(),
            lower: Vec::new(),
            released: false,
            problems: Vec::new(),
        }
    }

    /// Classes are added before the first service is listed, and removed after the last one is
    /// unlisted.
    fn classes(&mut self, desired: &Classes) {
        let present = &self.observed.classes;
        let words: BTreeMap<u32, ()> = present.keys().chain(desired.keys()).map(|index| (*index, ())).collect();
        let word = |table: &Classes, index| table.get(&index).copied().unwrap_or(0);
        for (index, ()) in words {
            let (before, after) = (word(present, index), word(desired, index));
            let both = before | after;
            if before != both {
                self.first.push(Step::SetClasses { index, word: both });
            }
            if after != both {
                self.lower.push(Step::SetClasses { index, word: after });
            }
        }
    }

    fn service(&mut self, desired: &DesiredService) {
        let before = self.by_front.get(&(desired.at, desired.is_ranged())).copied();
        // Another mode is another service to the packet path: it gets an entry of its own if both
        // fit.
        let known = before.filter(|index| self.observed.services[index].mode == desired.mode as u8);
        let Some(index) = known.or_else(|| self.free_services.next()).or(before) else {
            self.problems.push(format!(
                "service {} does not fit: the map holds {} services",
                desired.at.address, self.observed.capacity.services
            ));
            return;
        };
        self.kept_services.push(index);
        let members = self.members(index, desired);
        self.guards(index, desired);
        let ring = self.ring(index, desired, members);
        let entry = entries::service(desired, ring, self.observed.services.get(&index));
        match self.observed.services.get(&index) {
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
        for listing in Listing::of(desired.at, desired.last_port) {
            self.listed.insert(listing);
            if self.observed.listed.get(&listing) != Some(&index) {
                self.switch.push(Step::List { listing, index });
            }
        }
    }

    /// Plans the backends of a service. Returns those that take new flows.
    fn members(&mut self, index: u32, desired: &DesiredService) -> Vec<Member> {
        let (mut ordinary, mut fallback) = (Vec::new(), Vec::new());
        for backend in &desired.backends {
            let members = if backend.fallback { &mut fallback } else { &mut ordinary };
            members.extend(self.backend((index, desired), backend));
        }
        if ordinary.is_empty() { fallback } else { ordinary }
    }

    /// Plans a backend. Returns it if it takes new flows.
    fn backend(&mut self, service: (u32, &DesiredService), desired: &DesiredBackend) -> Option<Member> {
        let observed = self.observed;
        // The entry that the service had. It is another one if the mode changed.
        let former = self.by_front.get(&(service.1.at, service.1.is_ranged())).copied();
        let place = (former.unwrap_or(service.0), desired.address);
        let before = self.backends_of.get(&place).cloned().unwrap_or_default();
        // An entry that differs in more than its state, such as the source of its tunnel, is
        // replaced.
        let known = before.iter().find_map(|index| {
            let entry = observed.backends.get(index)?;
            let status = entry.status;
            let wanted = entries::backend(service, *index, desired, status.state(), status.generation());
            (*entry == wanted).then_some((*index, status))
        });
        let Some(index) = known.map(|(index, _)| index).or_else(|| self.free_backends.next()) else {
            self.problems.push(format!(
                "backend {} does not fit: the map holds {} backends",
                desired.address, observed.capacity.backends
            ));
            return None;
        };
        self.kept_backends.push(index);
        // What is unknown now, such as after a restart, is taken from the present entry.
        let last_hop = known.map(|(index, _)| index).or_else(|| before.first().copied());
        let last_hop = last_hop.and_then(|index| observed.next_hops.get(&index).copied());
        let hop = desired.next_hop.or(last_hop).unwrap_or(NextHop::ZERO);
        let status_at = |index: &u32| observed.backends.get(index).map(|backend| backend.status);
        let last = known
            .map(|(_, status)| status)
            .or_else(|| before.first().and_then(status_at));
        let state = desired
            .state
            .unwrap_or_else(|| last.map_or(desired.begins, BackendStatus::state));
        match known {
            Some((_, status)) => self.update_backend(index, status, state, hop),
            None => {
                let generation = status_at(&index).map_or(1, BackendStatus::generation);
                let entry = entries::backend(service, index, desired, state, generation);
                self.prepare.push(Step::SetNextHop { index, hop });
                self.prepare.push(Step::FillBackend { index, entry });
            }
        }
        (state == BackendState::Up && desired.weight > 0).then_some(Member {
            backend: index,
            weight: desired.weight,
            identity: desired.address,
        })
    }

    /// Plans the changes of a backend entry that is in use.
    fn update_backend(&mut self, index: u32, status: BackendStatus, state: BackendState, hop: NextHop) {
        if self.observed.next_hops.get(&index) != Some(&hop) {
            self.prepare.push(Step::SetNextHop { index, hop });
        }
        if status.state() != state {
            // A backend goes down after the ring is without it, and comes up before the ring has
            // it.
            let phase = if state == BackendState::Down {
                &mut self.lower
            } else {
                &mut self.prepare
            };
            let status = status.with_state(state);
            phase.push(Step::SetBackendStatus { index, status });
        }
    }

    /// Plans the allow and deny lists of a service. New entries are written before the service uses
    /// the lists. A source that is denied now is removed after the service uses the new entries, so
    /// that an allow list is never empty in between.
    fn guards(&mut self, index: u32, desired: &DesiredService) {
        for (guarded, verdict) in entries::guards(index, desired) {
            self.guarded.insert(guarded);
            let step = Step::SetGuard { guarded, verdict };
            match (self.observed.guards.get(&guarded), verdict) {
                (Some(before), _) if *before == verdict => {}
                (Some(GuardVerdict::Allow), GuardVerdict::Deny) if self.observed.services.contains_key(&index) => {
                    self.lower.push(step);
                }
                _ => self.prepare.push(step),
            }
        }
    }

    /// The ring of a service: the present one if its slots are unchanged, otherwise a new one.
    fn ring(&mut self, index: u32, desired: &DesiredService, members: Vec<Member>) -> Ring {
        let scheduler = desired.scheduler;
        let now = self.observed.services.get(&index).map(|service| service.ring);
        let has = |digest| match (now, self.observed.rings.get(&index)) {
            (Some(now), Some(present)) if *present == digest => Some(Ring::new(scheduler, now.offset(), now.length())),
            _ => None,
        };
        let known = self.ring_cache.digest(index, scheduler, &members);
        if let Some(ring) = known.and_then(has) {
            return ring;
        }
        // A ring that does not fit is not computed: it could need any amount of memory.
        let most = self.observed.capacity.ring_slots.min(Ring::MAX_LENGTH);
        let Some(slots) = schedule::ring(scheduler, &members, most) else {
            let weights = members.iter().map(|member| member.weight);
            return self.ring_does_not_fit(desired, schedule::ring_length(scheduler, weights), now);
        };
        let digest = schedule::Digest::of(&slots);
        self.ring_cache.note(index, scheduler, members, digest);
        if let Some(ring) = has(digest) {
            return ring;
        }
        let length = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let Some(offset) = self.ring_space.take(length) else {
            return self.ring_does_not_fit(desired, length.into(), now);
        };
        if length > 0 {
            self.prepare.push(Step::FillRing { offset, slots });
        }
        Ring::new(scheduler, offset, length)
    }

    /// Notes that a ring does not fit. The service keeps its present ring.
    fn ring_does_not_fit(&mut self, desired: &DesiredService, length: u64, now: Option<Ring>) -> Ring {
        self.problems.push(format!(
            "the {length} ring slots of service {} do not fit: the map holds {} for all services",
            desired.at.address, self.observed.capacity.ring_slots
        ));
        now.unwrap_or(Ring::new(desired.scheduler, 0, 0))
    }

    /// Plans the removal of everything that is not desired.
    fn remove_the_rest(&mut self) {
        self.kept_services.sort_unstable();
        self.kept_backends.sort_unstable();
        let kept = &self.kept_services;
        self.ring_cache.retain(|index| kept.binary_search(&index).is_ok());
        for listing in self
            .observed
            .listed
            .keys()
            .filter(|listing| !self.listed.contains(listing))
        {
            self.switch.push(Step::Unlist { listing: *listing });
        }
        for guarded in self
            .observed
            .guards
            .keys()
            .filter(|guarded| !self.guarded.contains(guarded))
        {
            // Entries of a former service are removed before another service gets its index; others
            // after their service has changed.
            let phase = if self.observed.services.contains_key(&guarded.service) {
                &mut self.lower
            } else {
                &mut self.first
            };
            phase.push(Step::RemoveGuard { guarded: *guarded });
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
        let mut steps = self.first;
        steps.extend(self.prepare);
        steps.extend(self.switch);
        if !self.lower.is_empty() {
            // A packet that selected a backend from the old ring has left before that backend goes
            // down.
            steps.push(Step::Settle);
        }
        let lowered = !self.lower.is_empty();
        steps.extend(self.lower);
        if self.released && (lowered || !steps.is_empty()) {
            // The next plan may use what this one freed.
            steps.push(Step::Settle);
        }
        Plan {
            steps,
            problems: self.problems,
        }
    }
}
