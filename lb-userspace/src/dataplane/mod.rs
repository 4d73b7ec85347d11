//! The kernel side as the controller sees it: pinned maps, the loaded program, its links. Nothing else touches aya.

mod attach;
mod client_hops;
pub mod dump;
mod error;
pub mod flows;
mod grace;
mod guards;
mod links;
mod listing;
mod loader;
mod pins;
mod program_log;
mod punts;
mod raw;
mod settings;
mod shared;
mod spills;
mod syscall;
mod tables;
mod usage;

pub use attach::{Attached, AttachedMode, detach};
pub use client_hops::ClientHops;
pub use error::DataplaneError;
pub use grace::wait_for_packets_under_way;
pub use guards::{GuardVerdict, Guarded};
pub use links::{Presence, foreign, presence};
pub use listing::{Listing, VirtualAddress};
pub use loader::{Loaded, load};
pub use pins::Pins;
pub use program_log::{ProgramLog, forward as forward_program_log};
pub use punts::Punts;
pub use settings::{Clock, monotonic};
pub use shared::{Record, SharedArray};
pub use tables::{Access, Tables};
pub use usage::{MapUsage, usage};
