//! What both sides of the kernel boundary share: maps and their layout, outcomes, the flow table,
//! and arithmetic that is easier to test on the host than in the kernel.
//!
//! Nothing here does I/O or depends on aya.

#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod address_class;
pub mod backend;
pub mod check_answer;
pub mod checksum;
pub mod choice;
pub mod endian;
pub mod event;
pub mod family;
pub mod flow;
pub mod flow_table;
pub mod fragment;
pub mod hash;
pub mod maps;
pub mod next_hop;
pub mod outcome;
pub mod punt;
pub mod router;
pub mod service;
pub mod settings;
pub mod signals;
pub mod wire;

pub use address_class::AddressClass;
pub use backend::{Backend, BackendCounters, BackendLoad, BackendState, BackendStatus};
pub use endian::Be16;
pub use event::Event;
pub use family::{Family, V4, V6};
pub use flow::{FlowKey, Phase, Ports};
pub use next_hop::{NextHop, Tags};
pub use outcome::{Action, Outcome};
pub use router::VirtualRouter;
pub use service::{
    GuardKey, Guards, Mode, OnBackendDown, Options, PortRangeKey, RateKey, Ring, RingSlot, Scheduler, Service,
    ServiceKey, ServiceState,
};
pub use settings::Settings;
pub use signals::BackendSignals;
