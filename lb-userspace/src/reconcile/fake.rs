//! Maps in memory, which check at every write what must hold at every instant.

use std::collections::{BTreeMap, HashMap};

use lb_common::{Backend, BackendState, BackendStatus, NextHop, Ring, RingSlot, Service};

use super::store::{Room, Store};
use crate::dataplane::{DataplaneError, VirtualAddress};

/// Maps in memory.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    pub(super) room: Room,
    pub(super) services: BTreeMap<u32, Service>,
    pub(super) backends: BTreeMap<u32, Backend>,
    pub(super) next_hops: BTreeMap<u32, NextHop>,
    pub(super) rings: BTreeMap<u32, RingSlot>,
    pub(super) listed: HashMap<VirtualAddress, u32>,
    /// Writes that are left before the process "dies".
    pub(super) budget: usize,
    /// Ring slots and backends that a packet under way may still see.
    hot_slots: Vec<u32>,
}

impl Fake {
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            rings: BTreeMap::new(),
            listed: HashMap::new(),
            budget: usize::MAX,
            hot_slots: Vec::new(),
        }
    }

    fn write(&mut self, change: impl FnOnce(&mut Self)) -> Result<(), DataplaneError> {
        if self.budget == 0 {
            return Err(DataplaneError::Map { name: "fake".to_owned(), cause: "died".into() });
        }
        self.budget -= 1;
        change(self);
        self.check();
        Ok(())
    }

    /// A service never refers to a ring that is not written, nor to a backend that is not there or is another's.
    fn check(&self) {
        for (at, index) in &self.listed {
            // An index that lists nothing yet or no more may stand only until the next write of its service.
            let Some(service) = self.services.get(index) else { continue };
            assert!(service.ring.scheduler().is_some(), "{at:?} is listed, but its entry is empty");
        }
        for (index, service) in &self.services {
            for slot in slots(service.ring) {
                let slot = self.rings.get(&slot).unwrap_or_else(|| panic!("service {index} has a slot that is not written"));
                let backend = self.backends.get(&slot.backend).expect("a slot names a backend that is not there");
                assert_eq!(backend.service, *index, "a slot names another service's backend");
                assert_ne!(backend.status.state(), BackendState::Free, "a slot names a backend that left");
            }
        }
    }
}

fn slots(ring: Ring) -> std::ops::Range<u32> {
    ring.offset()..ring.offset() + ring.length()
}

impl Store for Fake {
    fn room(&self) -> Room {
        self.room
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

    fn ring_slot(&self, index: u32) -> Option<RingSlot> {
        Some(self.rings.get(&index).copied().unwrap_or(RingSlot::ZERO))
    }

    fn listed(&self) -> Result<Vec<(VirtualAddress, u32)>, DataplaneError> {
        Ok(self.listed.iter().map(|(at, index)| (*at, *index)).collect())
    }

    fn fill_backend(&mut self, index: u32, entry: &Backend) -> Result<(), DataplaneError> {
        self.write(|fake| {
            let before = fake.backends.insert(index, *entry);
            assert!(before.is_none_or(|before| before.status.state() == BackendState::Free), "the entry was in use");
            assert!(before.is_none_or(|before| before.status.generation() == entry.status.generation()));
        })
    }

    fn set_backend_status(&mut self, index: u32, status: BackendStatus) -> Result<(), DataplaneError> {
        self.write(|fake| fake.backends.get_mut(&index).expect("an entry").status = status)
    }

    fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), DataplaneError> {
        self.write(|fake| {
            fake.next_hops.insert(index, *hop);
        })
    }

    fn fill_ring(&mut self, offset: u32, slots: &[RingSlot]) -> Result<(), DataplaneError> {
        self.write(|fake| {
            for (index, slot) in (offset..).zip(slots) {
                assert!(index < fake.room.ring_slots, "behind the end");
                assert!(!fake.hot_slots.contains(&index), "a packet under way may read slot {index}");
                fake.rings.insert(index, *slot);
            }
        })
    }

    fn fill_service(&mut self, index: u32, entry: &Service) -> Result<(), DataplaneError> {
        self.write(|fake| {
            assert!(fake.services.insert(index, *entry).is_none(), "the entry was in use");
        })
    }

    fn update_service(&mut self, index: u32, entry: &Service) -> Result<(), DataplaneError> {
        self.write(|fake| {
            let service = fake.services.get_mut(&index).expect("an entry");
            *service = Service { ring: service.ring, ..*entry };
        })
    }

    fn set_ring(&mut self, index: u32, ring: Ring) -> Result<(), DataplaneError> {
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

    fn list(&mut self, at: VirtualAddress, index: u32) -> Result<(), DataplaneError> {
        self.write(|fake| {
            assert!(fake.services.contains_key(&index), "listed before it is there");
            fake.listed.insert(at, index);
        })
    }

    fn unlist(&mut self, at: VirtualAddress) -> Result<(), DataplaneError> {
        self.write(|fake| {
            fake.listed.remove(&at);
        })
    }

    fn settle(&mut self) -> Result<(), DataplaneError> {
        self.write(|fake| fake.hot_slots.clear())
    }
}
