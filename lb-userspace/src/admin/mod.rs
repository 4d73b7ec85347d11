//! The server of the admin API: HTTP with JSON on a Unix socket, and on TCP if the configuration
//! says so.
//!
//! A request passes these files in order. Every error is a `Problem` of `crate::api`.
//!
//! | file | task |
//! |---|---|
//! | `listeners` | accepts connections, and bounds their number and time |
//! | `socket`, `credentials`, `access_rules` | create and configure what it listens on |
//! | `request_limits` | bounds the body, and turns errors into problems |
//! | `authorize`, `access` | check what the caller may do |
//! | `routes`, `query`, `known` | read the request, one file of `routes` for each noun |
//! | `ask` | runs the work on a thread where it may block |
//! | `inspect`, `control` | what the controller offers: to read, and to change |
//! | `openapi` | describes the API |

mod access;
mod access_rules;
mod ask;
mod authorize;
mod control;
mod credentials;
mod inspect;
mod known;
mod listeners;
mod openapi;
mod problem;
mod query;
mod request_limits;
mod routes;
pub mod server;
pub mod socket;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_control;
#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of `lbctl` need: a server with a fake controller.
    pub(crate) use super::{
        fake::{Fake, Running},
        fake_control::report,
        transport_tests::{listen, secret, serve},
    };
}
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transport_tests;

pub use access_rules::{AccessRules, ListenError, RulesHandle, check};
pub(crate) use control::nothing_named;
pub use control::{Control, ControlError};
pub use inspect::{Inspect, InspectError};
pub use listeners::Listeners;
