//! VRRP: which balancer of several has the virtual addresses (RFC 9568, version 3; RFC 3768, version 2).
//!
//! `wire` (packets), `instance` (who is master), `group` (who moves together), `relay` (whose connections are carried on), `announce_schedule` (when the link is told again),
//! `judge` and `mismatches` (what others' adverts are worth) and `track/track_result` (what it depends on) are pure, time is an
//! argument. `instances` is what the controller sees; `driver` is the thread, `runner` a group on it with its `alarm`, and
//! `member` one virtual router with its `transport` (`socket`, `announce`, `echo`, `lease`) and `addresses`, on the `ground` that
//! all see; `reporter` is what it shows of itself. What may block stays off that thread: `track/follow`, `hooks`, and what
//! `status` has told.

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

pub use cleanup::clear;
pub use instances::{Instances, Order, OrderError, VrrpError};
pub use readiness_requests::{Addresses, ReadinessRequests};
pub use status::Status;
