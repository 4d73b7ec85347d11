//! The server of the admin API: HTTP with JSON on a Unix socket, and on TCP if the configuration says so.
//!
//! `openapi` lists the requests and responses; `crate::api` has the types. Every error is a `Problem`.
//!
//! A request passes these files: `listeners` accepts the connection, `limits` bounds the request, `access` checks the
//! caller, and a route in `server`, `questions` or `changes` asks the controller through `Inspect` or `Control`.

mod access;
mod changes;
mod control;
mod credentials;
mod entrance;
mod inspect;
mod limits;
mod listeners;
mod openapi;
mod parameters;
mod patience;
mod problem;
mod questions;
pub mod server;
pub mod socket;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_control;
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

pub(crate) use control::nothing_named;
pub use control::{Control, ControlError};
pub use entrance::{Entrance, ListenError, Ways, check};
pub use inspect::{Inspect, InspectError};
pub use listeners::Listeners;
