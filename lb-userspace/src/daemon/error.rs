//! Why the controller cannot start.

use crate::{
    admin::ListenError,
    dataplane::DataplaneError,
    network::{neighbour::NeighbourError, port_reservation::ReserveError},
    system::{capabilities::Missing, lock::LockError},
};
use lb_core::config::ConfigError;

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[allow(missing_docs, reason = "each variant is the error of one part")]
pub enum DaemonError {
    Config(#[from] ConfigError),
    Capabilities(#[from] Missing),
    Lock(#[from] LockError),
    Dataplane(#[from] DataplaneError),
    Neighbour(#[from] NeighbourError),
    Listen(#[from] ListenError),
    Reserve(#[from] ReserveError),
    Vrrp(#[from] crate::vrrp::VrrpError),
    RawSocket(#[from] std::io::Error),
}
