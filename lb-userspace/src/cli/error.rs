//! Why `lbctl` failed, and the exit status for it.

use std::{io, path::PathBuf};

use crate::{api::Problem, dataplane::DataplaneError};
use lb_core::config::ConfigError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration does not say where the socket is.
    #[error("{cause}\nuse --config FILE (default /etc/lbd/lbd.toml) or --socket PATH to choose the node")]
    Config {
        /// What is wrong with the configuration.
        cause: ConfigError,
    },
    /// Nobody answers at the socket.
    #[error("cannot reach lbd at {}: {cause}{}", path.display(), hint(cause))]
    Unreachable {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// Nobody answers at the endpoint.
    #[error("cannot reach lbd at {url}: {cause}")]
    Endpoint {
        /// URL of the endpoint.
        url: String,
        /// Cause, and what to do.
        cause: String,
    },
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The response of the daemon cannot be read.
    #[error("cannot read the response of lbd at {}: {cause}", path.display())]
    Garbled {
        /// Path of the socket, or URL of the endpoint.
        path: PathBuf,
        /// What is wrong with the response.
        cause: String,
    },
    /// The daemon refused the request.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The backend does not exist any more.
    #[error("{0} does not exist any more")]
    Gone(String),
    /// A drain was cancelled while `lbctl` followed it.
    #[error("{name} is not drained: it is {state} ({cause})")]
    NotDrained {
        /// The backend, as SERVICE/BACKEND.
        name: String,
        /// State of the backend.
        state: String,
        /// Cause of the state.
        cause: String,
    },
    /// The maps cannot be read.
    #[error("{}{}", .0, maps_hint(.0))]
    Maps(#[from] DataplaneError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_forbidden() => 4,
            Self::Unreachable { .. } | Self::Endpoint { .. } => 3,
            Self::Config { .. } | Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Whether a permission is missing.
    fn is_forbidden(&self) -> bool {
        match self {
            Self::Refused(problem) => [401, 403].contains(&problem.status),
            Self::Unreachable { cause, .. } => cause.kind() == io::ErrorKind::PermissionDenied,
            Self::Maps(error) => error.is_permission_denied(),
            _ => false,
        }
    }

    /// Whether the daemon does not run, or stopped during the request.
    pub(super) fn is_absence(&self) -> bool {
        // A daemon that refuses runs.
        !self.is_forbidden()
            && matches!(
                self,
                Self::Unreachable { .. } | Self::Endpoint { .. } | Self::Garbled { .. }
            )
    }

    /// The error as problem details (RFC 9457). A refusal keeps the details of the daemon.
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
            Self::Garbled { .. } => "The response cannot be read",
            Self::Refused(_) => "Refused",
            Self::NotDrained { .. } => "Not drained",
            Self::Gone(_) => "Does not exist any more",
            Self::Maps(_) => "The maps cannot be read",
            Self::Output(_) => "The output cannot be written",
        }
    }

    /// Whether the reader of the output has closed it. That is no failure.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "; check that lbd runs and that this is its socket (`lbctl map` works without lbd)",
        io::ErrorKind::ConnectionRefused => {
            "; lbd does not run: the socket is left over (`lbctl map` works without lbd)"
        }
        io::ErrorKind::PermissionDenied => "; use sudo, or join the group of the socket",
        _ => "",
    }
}

fn maps_hint(error: &DataplaneError) -> &'static str {
    if error.is_permission_denied() {
        "; only root can read the maps: use sudo"
    } else {
        ""
    }
}
