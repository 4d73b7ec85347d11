//! What can be in the way of `lbctl`.

use std::{io, path::PathBuf};

use crate::{admin::Problem, dataplane::DataplaneError};
use lb_core::config::ConfigError;

/// What was in the way.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Nothing says where the socket is.
    #[error("{cause}\nlbctl finds the node by --config FILE, by default /etc/lbd/lbd.toml, or by --socket PATH")]
    Config {
        /// Why the configuration does not say it.
        cause: ConfigError,
    },
    /// The socket does not answer.
    #[error("cannot reach lbd at {}: {cause}{}", path.display(), hint(cause))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The TCP listener does not answer.
    #[error("cannot reach lbd at {url}: {cause}")]
    Endpoint {
        /// Where.
        url: String,
        /// Why, and what to do.
        cause: String,
    },
    /// The command line cannot be carried out.
    #[error("{0}")]
    Usage(String),
    /// The daemon answered something that is no answer.
    #[error("lbd at {} gave no usable answer: {cause}", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        cause: String,
    },
    /// The daemon refused.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// What the command is about is there no more.
    #[error("{0} is not there any more")]
    Gone(String),
    /// A drain that was followed ended before its flows did.
    #[error("{name} is not drained: it is {state} ({cause})")]
    NotDrained {
        /// Service and backend.
        name: String,
        /// What it is now.
        state: String,
        /// Why.
        cause: String,
    },
    /// The maps cannot be read.
    #[error("{}{}", .0, maps_hint(.0))]
    Maps(#[from] DataplaneError),
    /// The answer cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The status to end with.
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_forbidden() => 4,
            Self::Unreachable { .. } | Self::Endpoint { .. } => 3,
            Self::Config { .. } | Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Whether it is for want of a right.
    fn is_forbidden(&self) -> bool {
        match self {
            Self::Refused(problem) => [401, 403].contains(&problem.status),
            Self::Unreachable { cause, .. } => cause.kind() == io::ErrorKind::PermissionDenied,
            Self::Maps(error) => error.is_permission_denied(),
            _ => false,
        }
    }

    /// Whether the daemon is not there, or went away while it was asked.
    pub(super) fn is_absence(&self) -> bool {
        // Whoever forbids is there.
        !self.is_forbidden()
            && matches!(
                self,
                Self::Unreachable { .. } | Self::Endpoint { .. } | Self::Garbled { .. }
            )
    }

    /// What was in the way as problem details (RFC 9457): the daemon's own, where it refused.
    pub fn problem(&self) -> serde_json::Value {
        match self {
            Self::Refused(problem) => serde_json::json!(problem),
            other => serde_json::json!({ "type": "about:blank", "title": other.title(), "detail": other.to_string() }),
        }
    }

    fn title(&self) -> &'static str {
        match self {
            _ if self.is_forbidden() => "Not allowed",
            Self::Config { .. } | Self::Usage(_) => "Wrong usage",
            Self::Unreachable { .. } | Self::Endpoint { .. } => "lbd cannot be reached",
            Self::Garbled { .. } => "No usable answer",
            Self::Refused(_) => "Refused",
            Self::NotDrained { .. } => "Not drained",
            Self::Gone(_) => "Not there any more",
            Self::Maps(_) => "The maps cannot be read",
            Self::Output(_) => "The answer cannot be written",
        }
    }

    /// Whether the reader of the answer has gone, which is no failure.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "; is it running, and is this its socket? (the map commands work without it)",
        io::ErrorKind::ConnectionRefused => {
            "; it left its socket behind and does not run (the map commands work without it)"
        }
        io::ErrorKind::PermissionDenied => "; the socket is for its owner and group: use sudo, or join the group",
        _ => "",
    }
}

fn maps_hint(error: &DataplaneError) -> &'static str {
    if error.is_permission_denied() {
        "; the maps are for root: use sudo"
    } else {
        ""
    }
}
