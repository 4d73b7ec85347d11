//! The flow table: set-associative, in a plain array of buckets, without locks.
//!
//! A 5-tuple has two buckets, given by its hash. An entry stands in either of them, in one of six ways. All that is
//! known of it fits one 64-bit word, its [`Meta`], beside a key and a [`Binding`]; whoever changes that word by
//! compare-and-swap has changed the flow.
//!
//! A way is taken in three steps, so that no reader sees half an entry and no 5-tuple is entered twice:
//!
//! 1. [`reserve`]: `Free`, or an entry that must give way, becomes `Claimed`, with the next version: the way is one
//!    claimer's alone. Key and bind are written, and the way becomes `Pending`: others can see what is claimed, nobody
//!    follows it.
//! 2. [`conflict`]: the claimer looks at all ways of the first bucket for the same 5-tuple, pending or live; and of the
//!    second one, if the first has [spilled](spill). A claimer that takes a way of the second bucket says so before it
//!    announces its entry.
//! 3. [`withdraw`] if there is one, else [`commit`]: the entry goes live. Of two claimers each has announced itself before it looks, so at least one sees the
//!    other, and never do both go live.
//!
//! A reader takes the meta word, the key and the meta word again: the same backend, generation and version before and
//! after mean that the key between them belonged to that meta.
//!
//! The code is the same in the kernel, in the controller and in the model check: they differ in their [`Cells`].

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
/// Loads acquire, stores release; `swap` is atomic and a full barrier.
pub trait Cells: Copy {
    /// Loads 64 bits.
    fn load_u64(self, offset: usize) -> u64;
    /// Stores 64 bits.
    fn store_u64(self, offset: usize, value: u64);
    /// Loads 32 bits.
    fn load_u32(self, offset: usize) -> u32;
    /// Stores 32 bits.
    fn store_u32(self, offset: usize, value: u32);
    /// Replaces 64 bits when they are `old`; says whether it did.
    fn swap_u64(self, offset: usize, old: u64, new: u64) -> bool;
    /// Replaces 32 bits when they are `old`; says whether it did.
    fn swap_u32(self, offset: usize, old: u32, new: u32) -> bool;
    /// Orders what this CPU announced by `swap_u64` before what it loads next. Free where a swap does so itself.
    fn fence(self);
    /// The number itself, hidden from the optimiser, which would turn arithmetic without branches back into branches.
    fn opaque(number: u64) -> u64;
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
