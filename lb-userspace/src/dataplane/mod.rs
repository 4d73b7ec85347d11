//! The kernel side as the controller sees it: pinned maps, loaded programs, links. Only this module
//! uses aya.

mod attach;
mod check_replies;
mod client_hops;
pub mod dump;
mod error;
pub mod explain;
pub mod flows;
mod guards;
mod links;
mod listing;
mod loader;
mod migration;
mod pins;
mod program_log;
mod punts;
mod raw;
mod rcu;
mod routers;
mod settings;
mod shared;
mod spills;
mod store;
mod syscall;
mod table;
mod tables;
mod usage;

pub use attach::{Attached, AttachedMode, detach};
pub use check_replies::CheckReplies;
pub use client_hops::ClientHops;
pub use error::DataplaneError;
pub use links::{Presence, Running, presence, running};
pub use loader::{Loaded, load, load_after};
pub use migration::FormerLayout;
pub use pins::Pins;
pub use program_log::{ProgramLog, forward as forward_program_log};
pub use punts::Punts;
pub use rcu::wait_for_packets_in_flight;
pub use routers::{Heard, Registered, Routers, lease_clock};
pub use settings::{Clock, monotonic};
pub use shared::{Record, SharedArray};
pub use tables::{Access, Tables};
pub use usage::{MapUsage, usage};
