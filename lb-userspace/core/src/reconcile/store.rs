//! The maps as reconciliation needs them: some reads, and one write for each kind of step.

use lb_common::{Backend, BackendStatus, NextHop, Ring, RingSlot, Service};

use super::{GuardVerdict, Guarded, Listing, classes::Classes};
use crate::schedule::Digest;

/// Capacity of the maps: number of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Services.
    pub services: u32,
    /// Backends, and as many next hops.
    pub backends: u32,
    /// Ring slots.
    pub ring_slots: u32,
}

/// The maps of services and backends. An index out of range reads as unused, and is ignored when
/// written.
pub trait Store {
    /// The error of a read or write.
    type Error: std::error::Error;

    /// The number of entries of each map.
    fn capacity(&self) -> Capacity;
    /// Reads a service.
    fn service(&self, index: u32) -> Option<Service>;
    /// Reads a backend.
    fn backend(&self, index: u32) -> Option<Backend>;
    /// Reads a next hop.
    fn next_hop(&self, index: u32) -> Option<NextHop>;
    /// The digest of a ring's slots.
    fn ring(&self, ring: Ring) -> Digest;
    /// Reads all listings.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    fn listed(&self) -> Result<Vec<(Listing, u32)>, Self::Error>;
    /// Reads the class of each address.
    fn classes(&self) -> Classes;
    /// Reads the allow and deny lists.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    fn guards(&self) -> Result<Vec<(Guarded, GuardVerdict)>, Self::Error>;

    /// Fills an unused entry. All its flow counters are set to zero.
    ///
    /// # Errors
    ///
    /// When a map cannot be written. The same holds for the other writes.
    fn fill_backend(&mut self, index: u32, entry: &Backend) -> Result<(), Self::Error>;
    /// Changes state, generation and port in one write.
    fn set_backend_status(&mut self, index: u32, status: BackendStatus) -> Result<(), Self::Error>;
    /// Replaces a next hop.
    fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), Self::Error>;
    /// Writes slots that no ring uses.
    fn fill_ring(&mut self, offset: u32, slots: &[RingSlot]) -> Result<(), Self::Error>;
    /// Fills an unused entry. Everything that the packet path writes for it is set to zero.
    fn fill_service(&mut self, index: u32, entry: &Service) -> Result<(), Self::Error>;
    /// Changes everything of a service but its ring.
    fn update_service(&mut self, index: u32, entry: &Service) -> Result<(), Self::Error>;
    /// Switches ring and scheduler in one write.
    fn set_ring(&mut self, index: u32, ring: Ring) -> Result<(), Self::Error>;
    /// Adds a listing: packets find the service.
    fn list(&mut self, listing: Listing, index: u32) -> Result<(), Self::Error>;
    /// Removes a listing: packets do not find the service any more.
    fn unlist(&mut self, listing: Listing) -> Result<(), Self::Error>;
    /// Writes a word of the table of address classes.
    fn set_classes(&mut self, index: u32, word: u64) -> Result<(), Self::Error>;
    /// Sets what a service does with a source prefix.
    fn set_guard(&mut self, guarded: Guarded, verdict: GuardVerdict) -> Result<(), Self::Error>;
    /// Removes a source prefix from the lists of a service.
    fn remove_guard(&mut self, guarded: Guarded) -> Result<(), Self::Error>;
    /// Waits until no packet is in flight that may have seen what was written before.
    fn settle(&mut self) -> Result<(), Self::Error>;
}
