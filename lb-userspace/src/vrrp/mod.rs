//! VRRP at run time: sockets, addresses, timers and hooks around the pure protocol in
//! [`lb_core::vrrp`].
//!
//! | module | purpose |
//! |---|---|
//! | `instances` | what the controller uses: start, reload, orders, status |
//! | `driver` | the VRRP thread, with one task for each sync group |
//! | `runner`, `timer` | the task of a sync group |
//! | `virtual_router` | one virtual router: addresses, adverts, role |
//! | `transport` | what it uses while its interface is up: sockets, lease, device |
//! | `advert_socket`, `announce`, `echo`, `lease`, `router_mac` | the parts of `transport` |
//! | `addresses`, `interface_snapshot`, `netlink_threads` | interfaces and addresses by netlink |
//! | `tracker` | observes what virtual routers depend on |
//! | `readiness_requests` | whether this balancer can serve |
//! | `reporter`, `status`, `hooks` | status, events, warnings, hooks |
//! | `cleanup` | what a dead controller left |
//!
//! What may block runs outside the VRRP thread: `tracker`, `hooks`, and the task of `status` that
//! records events.

mod addresses;
mod advert_socket;
mod announce;
mod cleanup;
mod driver;
mod echo;
mod hooks;
mod instances;
mod interface_snapshot;
mod lease;
mod netlink_threads;
mod readiness_requests;
mod reporter;
mod router_mac;
mod runner;
mod status;
mod timer;
mod tracker;
mod transport;
mod virtual_router;

pub use cleanup::remove_all;
pub use instances::{Instances, Order, OrderError, VrrpError};
pub use readiness_requests::{Addresses, ReadinessRequests};
pub use status::Status;
