//! Maps in memory that check at every write what must hold at every moment.

use std::collections::{BTreeMap, HashMap};

use lb_common::{
    AddressClass, Backend, BackendState, BackendStatus, Guards, Mode, NextHop, Ring, RingSlot, Service,
    family::address::from_words,
};

use super::{
    classes::{self, Classes},
    store::{Capacity, Store},
};
use crate::{
    reconcile::{GuardVerdict, Guarded, Listing},
    schedule::Digest,
};

/// A write that failed.
#[derive(Debug, thiserror::Error)]
#[error("the map of the test {0}")]
pub(super) struct FakeError(&'static str);

/// Maps in memory.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    pub(super) capacity: Capacity,
    pub(super) services: BTreeMap<u32, Service>,
    pub(super) backends: BTreeMap<u32, Backend>,
    pub(super) next_hops: BTreeMap<u32, NextHop>,
    pub(super) rings: BTreeMap<u32, RingSlot>,
    pub(super) listed: HashMap<Listing, u32>,
    pub(super) classes: Classes,
    pub(super) guards: BTreeMap<Guarded, GuardVerdict>,
    /// Writes that remain before the process "dies".
    pub(super) budget: usize,
    /// Which of the next writes fail, as a repeating pattern; empty: none.
    pub(super) failing: Vec<bool>,
    /// Whether the invariants are checked at every write. They cannot hold for maps that were
    /// damaged before.
    pub(super) is_checked: bool,
    writes: usize,
    /// Ring slots and backends that a packet in flight may still see.
    hot_slots: Vec<u32>,
}

impl Fake {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            rings: BTreeMap::new(),
            listed: HashMap::new(),
            classes: Classes::new(),
            guards: BTreeMap::new(),
            budget: usize::MAX,
            failing: Vec::new(),
            is_checked: true,
            writes: 0,
            hot_slots: Vec::new(),
        }
    }

    fn write(&mut self, change: impl FnOnce(&mut Self)) -> Result<(), FakeError> {
        if self.budget == 0 {
            return Err(FakeError("died"));
        }
        self.budget -= 1;
        self.writes += 1;
        if !self.failing.is_empty() && self.failing[self.writes % self.failing.len()] {
            return Err(FakeError("failed"));
        }
        change(self);
        if self.is_checked {
            self.check();
        }
        Ok(())
    }

    /// A service never refers to a ring that is not written, nor to a backend that does not exist
    /// or belongs to another service.
    fn check(&self) {
        for (listing, index) in &self.listed {
            let service = self.services.get(index);
            let service = service.unwrap_or_else(|| panic!("{listing:?} leads to nothing"));
            assert!(
                service.ring.scheduler().is_some(),
                "{listing:?} is listed, but its entry is empty"
            );
            self.check_classes(*listing, service);
            self.check_guards(*index, service);
        }
        for (index, service) in &self.services {
            for slot in slots(service.ring) {
                let slot = self
                    .rings
                    .get(&slot)
                    .unwrap_or_else(|| panic!("service {index} has a slot that is not written"));
                let backend = self
                    .backends
                    .get(&slot.backend)
                    .expect("a slot names a backend that is not there");
                assert_eq!(backend.service, *index, "a slot names another service's backend");
                assert_ne!(
                    backend.status.state(),
                    BackendState::Free,
                    "a slot names a backend that left"
                );
            }
        }
    }
}

impl Fake {
    /// The addresses of a listed service have their class.
    fn check_classes(&self, listing: Listing, service: &Service) {
        let expect = |address, bits: u8, what: &str| {
            let class = classes::bits(&self.classes, address);
            assert_eq!(class.0 & bits, bits, "{what} of {listing:?} has no class");
        };
        expect(listing.first().address, AddressClass::VIRTUAL, "the address");
        if matches!(listing, Listing::Block { .. }) {
            expect(listing.first().address, AddressClass::RANGES, "the address");
        }
        if service.mode == Mode::Nat as u8 {
            for source in &service.sources[..service.source_count as usize] {
                expect(
                    from_words(service.family, *source).unwrap(),
                    AddressClass::SOURCE,
                    "a source",
                );
            }
        }
        for slot in slots(service.ring) {
            let backend = &self.backends[&self.rings[&slot].backend];
            if backend.mode == Mode::Dnat as u8 {
                let worker = from_words(backend.status.family(), backend.address).unwrap();
                expect(worker, AddressClass::WORKER, "a worker");
            }
        }
    }

    /// A listed service with an allow list has entries in it.
    fn check_guards(&self, index: u32, service: &Service) {
        let has = |wanted: &[GuardVerdict]| {
            let mut own = self.guards.iter().filter(|(guarded, _)| guarded.service == index);
            own.any(|(_, verdict)| wanted.contains(verdict))
        };
        let allow = GuardVerdict::Allow;
        assert!(
            service.guards & Guards::ALLOW == 0 || has(&[allow]),
            "service {index} allows no source"
        );
        let any = [allow, GuardVerdict::Deny];
        assert!(
            service.guards & Guards::DENY == 0 || has(&any),
            "service {index} denies no source"
        );
    }
}

fn slots(ring: Ring) -> std::ops::Range<u32> {
    ring.offset()..ring.offset() + ring.length()
}

impl Store for Fake {
    type Error = FakeError;

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn service(&self, index: u32) -> Option<Service> {
        self.services.get(&index).copied()
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        self.backends.get(&index).copied()
    }

    fn next_hop(&self, index: u32) -> Option<NextHop> {
        Some(self.next_hops.get(&index).copied().unwrap_or(NextHop::ZERO))
    }

    fn ring(&self, ring: Ring) -> Digest {
        let slot = |index| self.rings.get(&index).copied().unwrap_or(RingSlot::ZERO);
        Digest::of(&slots(ring).map(slot).collect::<Vec<_>>())
    }

    fn listed(&self) -> Result<Vec<(Listing, u32)>, FakeError> {
        Ok(self.listed.iter().map(|(listing, index)| (*listing, *index)).collect())
    }

    fn classes(&self) -> Classes {
        self.classes.clone()
    }

    fn guards(&self) -> Result<Vec<(Guarded, GuardVerdict)>, FakeError> {
        Ok(self
            .guards
            .iter()
            .map(|(guarded, verdict)| (*guarded, *verdict))
            .collect())
    }

    fn fill_backend(&mut self, index: u32, entry: &Backend) -> Result<(), FakeError> {
        self.write(|fake| {
            let before = fake.backends.insert(index, *entry);
            assert!(
                !fake.is_checked || before.is_none_or(|before| before.status.state() == BackendState::Free),
                "the entry was in use"
            );
            assert!(
                !fake.is_checked || before.is_none_or(|before| before.status.generation() == entry.status.generation())
            );
        })
    }

    fn set_backend_status(&mut self, index: u32, status: BackendStatus) -> Result<(), FakeError> {
        self.write(|fake| fake.backends.get_mut(&index).expect("an entry").status = status)
    }

    fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), FakeError> {
        self.write(|fake| {
            fake.next_hops.insert(index, *hop);
        })
    }

    fn fill_ring(&mut self, offset: u32, slots: &[RingSlot]) -> Result<(), FakeError> {
        self.write(|fake| {
            for (index, slot) in (offset..).zip(slots) {
                assert!(index < fake.capacity.ring_slots, "behind the end");
                assert!(
                    !fake.hot_slots.contains(&index),
                    "a packet in flight may read slot {index}"
                );
                fake.rings.insert(index, *slot);
            }
        })
    }

    fn fill_service(&mut self, index: u32, entry: &Service) -> Result<(), FakeError> {
        self.write(|fake| {
            assert!(fake.services.insert(index, *entry).is_none(), "the entry was in use");
        })
    }

    fn update_service(&mut self, index: u32, entry: &Service) -> Result<(), FakeError> {
        self.write(|fake| {
            let service = fake.services.get_mut(&index).expect("an entry");
            *service = Service {
                ring: service.ring,
                ..*entry
            };
        })
    }

    fn set_ring(&mut self, index: u32, ring: Ring) -> Result<(), FakeError> {
        self.write(|fake| {
            let service = fake.services.get_mut(&index).expect("an entry");
            let before = std::mem::replace(&mut service.ring, ring);
            if before != ring {
                fake.hot_slots.extend(slots(before));
            }
            if ring.scheduler().is_none() {
                fake.services.remove(&index);
            }
        })
    }

    fn list(&mut self, listing: Listing, index: u32) -> Result<(), FakeError> {
        self.write(|fake| {
            assert!(fake.services.contains_key(&index), "listed before it exists");
            fake.listed.insert(listing, index);
        })
    }

    fn unlist(&mut self, listing: Listing) -> Result<(), FakeError> {
        self.write(|fake| {
            fake.listed.remove(&listing);
        })
    }

    fn set_classes(&mut self, index: u32, word: u64) -> Result<(), FakeError> {
        self.write(|fake| {
            fake.classes.insert(index, word);
            fake.classes.retain(|_, word| *word != 0);
        })
    }

    fn set_guard(&mut self, guarded: Guarded, verdict: GuardVerdict) -> Result<(), FakeError> {
        self.write(|fake| {
            fake.guards.insert(guarded, verdict);
        })
    }

    fn remove_guard(&mut self, guarded: Guarded) -> Result<(), FakeError> {
        self.write(|fake| {
            fake.guards.remove(&guarded);
        })
    }

    fn settle(&mut self) -> Result<(), FakeError> {
        // Waiting is no write: it can be cut off by the end of the process, but does not fail.
        if self.budget > 0 {
            self.budget -= 1;
            self.hot_slots.clear();
        }
        Ok(())
    }
}
