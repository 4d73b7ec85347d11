//! The pinned maps as the store that reconciliation reads and writes.

use std::net::IpAddr;

use lb_common::{AddressClass, Backend, BackendState, BackendStatus, NextHop, Ring, RingSlot, Service};
use lb_core::{
    reconcile::{Classes, GuardVerdict, Guarded, Listing, Store, classes::place_of, store::Capacity},
    schedule::Digest,
};

use super::{DataplaneError, Tables, wait_for_packets_in_flight};

impl Tables {
    /// The class of an address in the packet path.
    pub fn address_class(&self, address: IpAddr) -> AddressClass {
        let (word, shift) = place_of(address);
        AddressClass((self.address_classes.read(word).unwrap_or(0) >> shift) as u8)
    }
}

impl Store for Tables {
    type Error = DataplaneError;

    fn capacity(&self) -> Capacity {
        Capacity {
            services: self.services.len(),
            backends: self.backends.len().min(self.next_hops.len()),
            ring_slots: self.rings.len(),
        }
    }

    fn service(&self, index: u32) -> Option<Service> {
        self.services.read(index)
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        self.backends.read(index)
    }

    fn next_hop(&self, index: u32) -> Option<NextHop> {
        self.next_hops.read(index)
    }

    fn ring(&self, ring: Ring) -> Digest {
        Digest::of_words(self.rings.slots(ring.offset(), ring.length()))
    }

    fn listed(&self) -> Result<Vec<(Listing, u32)>, DataplaneError> {
        self.listings()
    }

    fn classes(&self) -> Classes {
        (0..self.address_classes.len())
            .filter_map(|index| Some((index, self.address_classes.read(index)?)))
            .filter(|(_, word)| *word != 0)
            .collect()
    }

    fn guards(&self) -> Result<Vec<(Guarded, GuardVerdict)>, DataplaneError> {
        Tables::guards(self)
    }

    fn fill_backend(&mut self, index: u32, entry: &Backend) -> Result<(), DataplaneError> {
        self.loads.replace(index, &lb_common::BackendLoad::ZERO);
        self.signals.replace(index, &lb_common::BackendSignals::ZERO);
        self.clear_backend_counters(index)?;
        self.backends.publish(index, entry);
        Ok(())
    }

    fn set_backend_status(&mut self, index: u32, status: BackendStatus) -> Result<(), DataplaneError> {
        let service = self.backends.read(index).map(|backend| backend.service);
        if status.state() == BackendState::Up {
            // Signals from before it was up say nothing about it now.
            self.signals.replace(index, &lb_common::BackendSignals::ZERO);
        }
        self.backends.set_publish_word(index, status.0);
        if status.state() == BackendState::Free
            && let Some(service) = service
        {
            // The service no longer counts its flows; nothing else subtracts them.
            let flows = self.loads.take_flows(index);
            self.service_states.adjust_flows(service, -flows);
        }
        Ok(())
    }

    fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), DataplaneError> {
        self.next_hops.replace(index, hop);
        Ok(())
    }

    fn fill_ring(&mut self, offset: u32, slots: &[RingSlot]) -> Result<(), DataplaneError> {
        for (index, slot) in (offset..).zip(slots) {
            self.rings.publish(index, slot);
        }
        Ok(())
    }

    fn fill_service(&mut self, index: u32, entry: &Service) -> Result<(), DataplaneError> {
        self.service_states.replace(index, &lb_common::ServiceState::ZERO);
        self.services.publish(index, entry);
        Ok(())
    }

    fn update_service(&mut self, index: u32, entry: &Service) -> Result<(), DataplaneError> {
        self.services.update(index, entry);
        Ok(())
    }

    fn set_ring(&mut self, index: u32, ring: Ring) -> Result<(), DataplaneError> {
        self.services.set_publish_word(index, ring.0);
        Ok(())
    }

    fn list(&mut self, listing: Listing, index: u32) -> Result<(), DataplaneError> {
        Tables::list(self, listing, index)
    }

    fn unlist(&mut self, listing: Listing) -> Result<(), DataplaneError> {
        Tables::unlist(self, listing)
    }

    fn set_classes(&mut self, index: u32, word: u64) -> Result<(), DataplaneError> {
        self.address_classes.set_publish_word(index, word);
        Ok(())
    }

    fn set_guard(&mut self, guarded: Guarded, verdict: GuardVerdict) -> Result<(), DataplaneError> {
        Tables::set_guard(self, guarded, verdict)
    }

    fn remove_guard(&mut self, guarded: Guarded) -> Result<(), DataplaneError> {
        Tables::remove_guard(self, guarded)
    }

    fn settle(&mut self) -> Result<(), DataplaneError> {
        wait_for_packets_in_flight();
        Ok(())
    }
}
