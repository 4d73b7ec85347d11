//! Why a check failed, in the words that an operator reads.

use std::{io, time::Duration};

use nix::libc;

use lb_core::config::Pattern;

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
    /// The body, or the reply, is not what was expected.
    #[error("the {what} has no {pattern} in its first {length} bytes")]
    Text {
        /// `body` or `reply`.
        what: &'static str,
        /// What was expected.
        pattern: Pattern,
        /// How much there was, or was read.
        length: usize,
    },
    /// TLS did not come about.
    #[error("TLS: {0}")]
    Tls(String),
    /// The gRPC health service did not say that it serves.
    #[error("gRPC: {0}")]
    Grpc(String),
    /// The name server did not answer as expected.
    #[error("DNS: {0}")]
    Dns(String),
    /// The command did not succeed.
    #[error("command: {0}")]
    Command(String),
    /// The check could not be made, for a reason that lies on this machine.
    #[error("not possible here: {}", reason(.0))]
    Here(io::Error),
    /// The link that leads to the backend fails on this machine.
    #[error("{0} has no link, or has had one for a moment only")]
    OwnLink(String),
}

impl ProbeFailure {
    /// What it is where the check goes through a device of this machine: without that it says nothing.
    #[must_use]
    pub fn of_way(self) -> Self {
        match self {
            Self::Connect(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::ENETDOWN | libc::ENODEV | libc::EHOSTUNREACH)
                ) =>
            {
                Self::Here(error)
            }
            other => other,
        }
    }

    /// Whether it says something about the backend. A balancer that is short of file descriptors or memory must not
    /// conclude that all its backends are down.
    pub fn is_conclusive(&self) -> bool {
        match self {
            Self::Connect(error) => !matches!(
                error.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::EAGAIN)
            ),
            Self::Here(_) | Self::OwnLink(_) => false,
            _ => true,
        }
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
