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
//!
//! Every error is a [`Problem`] with the status of the response.

mod access;
mod credentials;
mod inspect;
mod limits;
mod listeners;
pub mod model;
mod openapi;
mod parameters;
mod patience;
mod problem;
pub mod server;
pub mod socket;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transport_tests;
pub use credentials::CredentialsError;
pub use inspect::{Inspect, InspectError};
pub use listeners::{ListenError, Listeners};
pub use problem::Problem;
