//! VRRP: which balancer of several has the virtual addresses (RFC 9568, version 3; RFC 3768, version 2).
//!
//! `wire` (packets), `instance` (who is master), `group` (who moves together), `relay` (whose connections are carried on), `repeats` (when the link is told again),
//! `judge` and `oddities` (what others' adverts are worth) and `track/standing` (what it depends on) are pure, time is an
//! argument. `instances` is what the controller sees; `driver` is the thread, `runner` a group on it with its `alarm`, and
//! `member` one virtual router with its `ports` (`socket`, `announce`, `echo`, `lease`) and `addresses`, on the `ground` that
//! all see; `shown` is what it shows of itself. What may block stays off that thread: `track/follow`, `hooks`, and what
//! `status` has told.

mod addresses;
mod alarm;
mod announce;
mod driver;
mod echo;
mod fitness;
mod follow;
mod ground;
mod hooks;
mod instances;
mod kernel;
mod lease;
mod leftovers;
mod member;
mod ports;
mod router_mac;
mod runner;
mod shown;
mod socket;
mod status;

pub use fitness::{Addresses, Fitness};
pub use instances::{Disobeyed, Instances, Order, VrrpError};
pub use leftovers::clear;
pub use status::Status;
