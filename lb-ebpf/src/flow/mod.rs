//! The flow table in the packet path: find, claim, touch, release.
//!
//! A flow of a mode that translates has two entries. Its client's packets find the first, its
//! worker's replies the second. The first is the flow: its phase is the connection's, and it is
//! what is counted. The second follows its phase.

pub mod backend;
pub mod claim;
pub mod client_hop;
mod clock;
pub mod counts;
mod entry;
pub mod find;
pub mod pair;
pub mod replies;
pub mod scratch;
pub mod signals;
mod spill;
pub mod touch;

pub use self::{clock::now, entry::Flow};
