//! `lbctl backend`

use std::str::FromStr;

use clap::Subcommand;

use super::values;

/// Verbs of `backend`.
#[derive(Debug, Subcommand)]
pub enum BackendVerb {
    /// Show backends with their state, its cause, and their flows.
    List {
        /// Show only the backends of this service.
        service: Option<String>,
    },
    /// Send a backend no new flows; existing flows continue.
    Drain {
        /// The backend, as SERVICE/BACKEND.
        target: BackendName,
        /// End the remaining flows after this time, such as 5m, as `on_backend_down` of the service
        /// says.
        #[arg(long, value_name = "DURATION", value_parser = values::deadline)]
        deadline: Option<String>,
        /// Wait until the drain is done, and show the number of remaining flows.
        #[arg(long)]
        wait: bool,
    },
    /// End a drain: send the backend new flows again.
    Undrain {
        /// The backend, as SERVICE/BACKEND.
        target: BackendName,
    },
    /// Treat a backend as down, whatever its health check says.
    Disable {
        /// The backend, as SERVICE/BACKEND.
        target: BackendName,
    },
    /// End `disable`: follow the health check again.
    Enable {
        /// The backend, as SERVICE/BACKEND.
        target: BackendName,
    },
    /// Override the configured weight of a backend.
    Weight {
        /// The backend, as SERVICE/BACKEND.
        target: BackendName,
        /// The weight, 0 to 1000; 0 means no new flows.
        #[arg(required_unless_present = "reset", conflicts_with = "reset", value_parser = values::weight)]
        weight: Option<u32>,
        /// Use the configured weight again.
        #[arg(long)]
        reset: bool,
    },
}

/// A backend, named as SERVICE/BACKEND.
#[derive(Clone, Debug)]
pub struct BackendName {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
}

impl FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((service, backend)) if !service.is_empty() && !backend.is_empty() => Ok(Self {
                service: service.to_owned(),
                backend: backend.to_owned(),
            }),
            _ => Err("expected SERVICE/BACKEND, such as web/w1".to_owned()),
        }
    }
}
