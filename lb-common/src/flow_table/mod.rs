//! The flow table: set-associative, in a plain array of buckets, without locks.
//!
//! A 5-tuple has two buckets, given by its hash. Its entry is in one of the six slots of either
//! bucket. The state of an entry is one 64-bit word, its [`Meta`], beside a key and a [`Binding`].
//! A compare-and-swap of that word changes the flow.
//!
//! An entry is created in three steps. No reader sees half an entry, and no 5-tuple gets two
//! entries:
//!
//! 1. [`reserve`]: a slot that is free, or whose entry can be evicted, becomes `Claimed` with the
//!    next version. Only the claimer writes to it now: key and binding. Then it becomes `Pending`:
//!    other claimers see it, readers do not follow it.
//! 2. [`conflict`]: the claimer searches the first bucket for another entry of the 5-tuple, pending
//!    or live; and the second bucket, if the first has [spilled](spill). A claimer that takes a
//!    slot of the second bucket marks the spill before it reserves.
//! 3. [`commit`], or [`withdraw`] if there is a conflict. Of two claimers, each reserves before it
//!    searches, so at least one sees the other: they never commit both.
//!
//! A reader reads the meta word, the key, and the meta word again. If backend, generation and
//! version are the same before and after, the key belongs to that meta word.
//!
//! Kernel, controller and model check use the same code. They differ in their [`Cells`].

pub mod binding;
mod claim;
mod find;
mod layout;
mod meta;
mod place;
mod release;
pub mod spill;

pub use binding::Binding;
pub use claim::{NewEntry, Refused, Reserved, commit, conflict, reserve, withdraw};
pub use find::{Hit, find, find_reply, port_difference, read, search, search_reply};
pub use layout::{BucketV4, BucketV6, Layout, SLOTS};
pub use meta::{Meta, Record, Stage};
pub use place::{Places, buckets_for, places};
pub use release::{Touched, release, touch};
pub use spill::{Spills, spills_for};

/// Access to the words of one bucket. Offsets are in bytes, aligned to the word.
///
/// Loads acquire, stores release. A swap is atomic and a full barrier.
pub trait Cells: Copy {
    /// Loads 64 bits.
    fn load_u64(self, offset: usize) -> u64;
    /// Stores 64 bits.
    fn store_u64(self, offset: usize, value: u64);
    /// Loads 32 bits.
    fn load_u32(self, offset: usize) -> u32;
    /// Stores 32 bits.
    fn store_u32(self, offset: usize, value: u32);
    /// Replaces 64 bits if they are `old`. Returns whether it did.
    fn swap_u64(self, offset: usize, old: u64, new: u64) -> bool;
    /// Replaces 32 bits if they are `old`. Returns whether it did.
    fn swap_u32(self, offset: usize, old: u32, new: u32) -> bool;
    /// Orders a reservation by `swap_u64` before the loads that follow. Does nothing where a swap
    /// is a full barrier.
    fn fence(self);
    /// The number itself, hidden from the optimiser, which would turn arithmetic without branches
    /// back into branches.
    fn opaque(number: u64) -> u64;
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
