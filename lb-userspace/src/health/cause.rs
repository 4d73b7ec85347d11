//! Why a check failed, in the words that an operator reads.

use std::{io, time::Duration};

use nix::libc;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// The connection could not be made.
    #[error("connect: {}", reason(.0))]
    Connect(io::Error),
    /// There was no answer in time.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// The status is not one of those expected.
    #[error("status {status}, expected {expected}")]
    Status {
        /// What came.
        status: u16,
        /// What was expected, as in the configuration.
        expected: String,
    },
    /// What came is no HTTP response, or it broke off.
    #[error("no HTTP response: {0}")]
    Http(String),
}

impl ProbeFailure {
    /// Whether it says something about the backend. A balancer that is short of file descriptors or memory must not
    /// conclude that all its backends are down.
    pub fn is_conclusive(&self) -> bool {
        let Self::Connect(error) = self else { return true };
        !matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
        )
    }
}

/// An error of the system without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    }
}
