//! Why a check failed, in the words that an operator reads.

use std::{io, time::Duration};

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

/// An error of the system without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    }
}
