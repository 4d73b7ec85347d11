//! The admin API: HTTP with JSON over a Unix socket, through which `lbctl` and others see what the controller sees.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/node` | [`model::NodeStatus`] |
//! | `GET /v1/services` | array of [`model::ServiceStatus`] |
//! | `GET /v1/services/{name}` | [`model::ServiceStatus`] |
//! | `GET /v1/backends?service=` | array of [`model::BackendStatus`] |
//! | `GET /v1/openapi.json` | the description of all of it, `docs/openapi.json` |
//! | `GET /v1/flows?service=&backend=&client=&limit=` | [`model::FlowPage`] |
//! | `DELETE /v1/flows?service=&backend=&client=&all=` | [`model::Flushed`] |
//! | `POST /v1/services/{name}/backends/{name}/{verb}` | `null`: it is done |
//! | `POST /v1/reload?dry_run=` | [`Report`](lb_core::reload::Report) |
//! | `GET /v1/events?after=&last=&limit=&wait=` | [`EventPage`](crate::events::EventPage) |
//! | `GET /v1/explain?protocol=&client=&address=` | [`Explanation`](crate::dataplane::explain::Explanation) |
//!
//! The verbs of a backend are `drain` (`?deadline=5m`), `undrain`, `disable`, `enable`, `weight` (`?value=3`) and
//! `reset-weight`. `wait` lets the answer about events wait for so many seconds until there is one.
//!
//! Every error is a [`Problem`] with the status of the response.

mod access;
mod changes;
mod control;
mod credentials;
mod entrance;
mod inspect;
mod limits;
mod listeners;
pub mod model;
mod openapi;
mod parameters;
mod patience;
mod problem;
mod questions;
pub mod server;
pub mod socket;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fake_control;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transport_tests;

pub(crate) use changes::deadline;
pub(crate) use control::nothing_named;
pub use control::{Control, ControlError};
pub use entrance::{Entrance, ListenError, Ways, check};
pub use inspect::{Inspect, InspectError};
pub use listeners::Listeners;
pub use problem::Problem;
