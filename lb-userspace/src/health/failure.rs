//! Why a check failed, as operators read it.

use std::{io, time::Duration};

use nix::libc;

use lb_core::config::Pattern;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// No connection, or a datagram was refused.
    #[error("connect: {}", reason(.0))]
    Connect(io::Error),
    /// The check did not end within its timeout.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// The status code is not an expected one.
    #[error("status {status}, expected {expected}")]
    Status {
        /// The status code of the response.
        status: u16,
        /// The expected codes, as in the configuration.
        expected: String,
    },
    /// The response is not valid HTTP, or incomplete.
    #[error("no valid HTTP response: {0}")]
    Http(String),
    /// The body or the reply does not contain the expected text.
    #[error("{pattern} not found in the first {length} bytes of the {what}")]
    Text {
        /// `body` or `reply`.
        what: &'static str,
        /// The expected text.
        pattern: Pattern,
        /// The number of bytes that were searched.
        length: usize,
    },
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The gRPC health service did not report `SERVING`.
    #[error("gRPC: {0}")]
    Grpc(String),
    /// The name server did not respond as expected.
    #[error("DNS: {0}")]
    Dns(String),
    /// The command failed.
    #[error("command: {0}")]
    Command(String),
    /// This machine cannot make the check.
    #[error("this balancer cannot make the check: {}", reason(.0))]
    Local(io::Error),
    /// The link of this machine that leads to the backend flaps.
    #[error("the link of {0} is down or was down a moment ago")]
    LinkFlap(String),
}

impl ProbeFailure {
    /// The same failure, for a check that went through the tun device: errors of the device's
    /// routes are local ones.
    #[must_use]
    pub fn through_device(self) -> Self {
        match self {
            Self::Connect(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::ENETDOWN | libc::ENODEV | libc::EHOSTUNREACH)
                ) =>
            {
                Self::Local(error)
            }
            other => other,
        }
    }

    /// Whether it says something about the backend. A balancer that lacks file descriptors, memory
    /// or ports must not take its backends down.
    pub fn is_conclusive(&self) -> bool {
        match self {
            Self::Connect(error) => !matches!(
                error.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::EAGAIN)
            ),
            Self::Local(_) | Self::LinkFlap(_) => false,
            _ => true,
        }
    }
}

/// A system error without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    }
}
