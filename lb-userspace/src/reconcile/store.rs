//! The maps as reconciliation needs them: a few reads and the writes of a plan's steps.

use lb_common::{Backend, BackendState, BackendStatus, NextHop, Ring, RingSlot, Service};

use super::classes::Classes;
use crate::{
    dataplane::{DataplaneError, GuardVerdict, Guarded, Listing, Tables},
    schedule::Digest,
};

/// How many entries the maps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Services.
    pub services: u32,
    /// Backends, and as many next hops.
    pub backends: u32,
    /// Ring slots.
    pub ring_slots: u32,
}

/// The maps that hold services and backends. Indexes behind the end read as unused and are ignored when written.
pub trait Store {
    /// How many entries there are.
    fn room(&self) -> Room;
    /// Reads a service.
    fn service(&self, index: u32) -> Option<Service>;
    /// Reads a backend.
    fn backend(&self, index: u32) -> Option<Backend>;
    /// Reads a next hop.
    fn next_hop(&self, index: u32) -> Option<NextHop>;
    /// What the slots of a ring are.
    fn ring(&self, ring: Ring) -> Digest;
    /// Reads which services packets can find.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    fn listed(&self) -> Result<Vec<(Listing, u32)>, DataplaneError>;
    /// Reads what addresses may be.
    fn classes(&self) -> Classes;
    /// Reads which sources services take or refuse.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    fn guards(&self) -> Result<Vec<(Guarded, GuardVerdict)>, DataplaneError>;

    /// Fills an unused entry, with all numbers of its flows at zero.
    ///
    /// # Errors
    ///
    /// When a map cannot be written; so for the other writes.
    fn fill_backend(&mut self, index: u32, entry: &Backend) -> Result<(), DataplaneError>;
    /// Changes state, generation and port in one write.
    fn set_backend_status(&mut self, index: u32, status: BackendStatus) -> Result<(), DataplaneError>;
    /// Replaces a next hop.
    fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), DataplaneError>;
    /// Writes slots that no ring in use has.
    fn fill_ring(&mut self, offset: u32, slots: &[RingSlot]) -> Result<(), DataplaneError>;
    /// Fills an unused entry, with all that the packet path changes of it at zero.
    fn fill_service(&mut self, index: u32, entry: &Service) -> Result<(), DataplaneError>;
    /// Changes all of a service but its ring.
    fn update_service(&mut self, index: u32, entry: &Service) -> Result<(), DataplaneError>;
    /// Switches ring and scheduler in one write.
    fn set_ring(&mut self, index: u32, ring: Ring) -> Result<(), DataplaneError>;
    /// Lets packets find a service.
    fn list(&mut self, listing: Listing, index: u32) -> Result<(), DataplaneError>;
    /// Lets packets find a service no more.
    fn unlist(&mut self, listing: Listing) -> Result<(), DataplaneError>;
    /// Writes a word of the table of address classes.
    fn set_classes(&mut self, index: u32, word: u64) -> Result<(), DataplaneError>;
    /// Sets what a service does with sources.
    fn set_guard(&mut self, guarded: Guarded, verdict: GuardVerdict) -> Result<(), DataplaneError>;
    /// Lets a service know nothing of sources any more.
    fn remove_guard(&mut self, guarded: Guarded) -> Result<(), DataplaneError>;
    /// Waits until no packet is under way that may have seen what was written before.
    fn settle(&mut self) -> Result<(), DataplaneError>;
}

impl Store for Tables {
    fn room(&self) -> Room {
        Room {
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
            // What it left unanswered before says nothing of what it does from now on.
            self.signals.replace(index, &lb_common::BackendSignals::ZERO);
        }
        self.backends.set_publish_word(index, status.0);
        if status.state() == BackendState::Free
            && let Some(service) = service
        {
            // Its flows are nobody's from now on, so that nobody else takes them out of the service's number.
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
        crate::dataplane::wait_for_packets_under_way();
        Ok(())
    }
}
