//! Why a configuration is not put into force.

use super::Fixed;
use crate::config::ConfigError;

/// Why a configuration is not put into force. The one before stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be read, or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what cannot change while the daemon runs.
    #[error("{}", lines(.0))]
    Fixed(Vec<Fixed>),
    /// The maps have no room for it.
    #[error("the maps that are in use have no room for it: {}; `lbd detach` and a new start change their sizes, and end all flows", .0.join("; "))]
    NoRoom(Vec<String>),
    /// An interface cannot be had.
    #[error("{0}")]
    Interface(String),
    /// The maps cannot be read.
    #[error("{0}")]
    Maps(String),
}

fn lines(fixed: &[Fixed]) -> String {
    let lines: Vec<String> = fixed.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
