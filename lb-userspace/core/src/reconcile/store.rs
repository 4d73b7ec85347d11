//! The maps as reconciliation needs them: a few reads and the writes of a plan's steps.

use lb_common::{Backend, BackendStatus, NextHop, Ring, RingSlot, Service};

use super::{GuardVerdict, Guarded, Listing, classes::Classes};
use crate::schedule::Digest;

/// How many entries the maps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Services.
    pub services: u32,
    /// Backends, and as many next hops.
    pub backends: u32,
    /// Ring slots.
    pub ring_slots: u32,
}

/// The maps that hold services and backends. Indexes behind the end read as unused and are ignored when written.
pub trait Store {
    /// Why a map cannot be read or written.
    type Error: std::error::Error;

    /// How many entries there are.
    fn capacity(&self) -> Capacity;
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
    fn listed(&self) -> Result<Vec<(Listing, u32)>, Self::Error>;
    /// Reads what addresses may be.
    fn classes(&self) -> Classes;
    /// Reads which sources services take or refuse.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    fn guards(&self) -> Result<Vec<(Guarded, GuardVerdict)>, Self::Error>;

    /// Fills an unused entry, with all numbers of its flows at zero.
    ///
    /// # Errors
    ///
    /// When a map cannot be written; so for the other writes.
    fn fill_backend(&mut self, index: u32, entry: &Backend) -> Result<(), Self::Error>;
    /// Changes state, generation and port in one write.
    fn set_backend_status(&mut self, index: u32, status: BackendStatus) -> Result<(), Self::Error>;
    /// Replaces a next hop.
    fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), Self::Error>;
    /// Writes slots that no ring in use has.
    fn fill_ring(&mut self, offset: u32, slots: &[RingSlot]) -> Result<(), Self::Error>;
    /// Fills an unused entry, with all that the packet path changes of it at zero.
    fn fill_service(&mut self, index: u32, entry: &Service) -> Result<(), Self::Error>;
    /// Changes all of a service but its ring.
    fn update_service(&mut self, index: u32, entry: &Service) -> Result<(), Self::Error>;
    /// Switches ring and scheduler in one write.
    fn set_ring(&mut self, index: u32, ring: Ring) -> Result<(), Self::Error>;
    /// Lets packets find a service.
    fn list(&mut self, listing: Listing, index: u32) -> Result<(), Self::Error>;
    /// Lets packets find a service no more.
    fn unlist(&mut self, listing: Listing) -> Result<(), Self::Error>;
    /// Writes a word of the table of address classes.
    fn set_classes(&mut self, index: u32, word: u64) -> Result<(), Self::Error>;
    /// Sets what a service does with sources.
    fn set_guard(&mut self, guarded: Guarded, verdict: GuardVerdict) -> Result<(), Self::Error>;
    /// Lets a service know nothing of sources any more.
    fn remove_guard(&mut self, guarded: Guarded) -> Result<(), Self::Error>;
    /// Waits until no packet is under way that may have seen what was written before.
    fn settle(&mut self) -> Result<(), Self::Error>;
}
