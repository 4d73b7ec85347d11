//! Responses as text for people, one file for each noun. These functions do no I/O.

mod backend;
mod event;
mod explain;
mod flow;
mod map;
mod node;
mod reload;
mod service;
mod table;
mod vrrp;

pub(super) use backend::backends;
pub(super) use event::{event_line, events};
pub(super) use explain::explanation;
pub(super) use flow::{flow_count, flows};
pub(super) use map::{entries, maps, usage};
pub(super) use node::node;
pub(super) use reload::report;
pub(super) use service::services;
pub(super) use vrrp::vrrp;
