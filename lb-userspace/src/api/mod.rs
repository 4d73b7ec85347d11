//! What travels over the admin API: JSON documents, errors and limits.
//!
//! The server (`admin`) and the client (`cli`) both import this module, and neither imports the
//! other. A choice is a word, the same as in the configuration file where it has one there. Words
//! are `String`s here, so that an older `lbctl` can show a word that only a newer `lbd` knows.

mod backend;
mod deadline;
mod event;
mod flow;
pub mod limits;
mod node;
mod problem;
#[cfg(test)]
pub(crate) mod samples;
mod service;
mod timestamp;
mod vrrp;

pub use backend::{BackendStatus, HealthStatus, NextHopStatus, OverrideStatus};
pub use deadline::deadline;
pub use event::{Event, EventPage};
pub use flow::{FlowCount, FlowFilter, FlowPage, FlowStatus, Flushed};
pub use node::{FlowTable, FlowTables, InterfaceStatus, NodeStatus, ReconcileStatus};
pub use problem::Problem;
pub use service::ServiceStatus;
pub use timestamp::timestamp;
pub use vrrp::{TrackStatus, VrrpStatus};
