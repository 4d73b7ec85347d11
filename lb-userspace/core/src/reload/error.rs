//! Why a reload is refused.

use super::FixedKey;
use crate::config::{ConfigError, Diagnostic};

/// Why a reload is refused. The old configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be read, or is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file changes keys that cannot change while the daemon runs.
    #[error("{}", lines(.0))]
    Fixed(Vec<FixedKey>),
    /// The new configuration does not fit into the maps.
    #[error("the configuration does not fit into the maps in use: {}; to change their sizes, restart lbd with `lbd run --replace-maps` (this ends connections of nat and dnat)", .0.join("; "))]
    DoesNotFit(Vec<String>),
    /// Reading a file took too long.
    #[error("{0}")]
    Slow(String),
    /// The changed overrides cannot be saved.
    #[error("{0}; nothing is changed, because a restart would lose overrides that are not on disk")]
    Unsaved(String),
    /// An interface cannot be used.
    #[error("{0}")]
    Interface(String),
    /// The admin API cannot be served as configured.
    #[error("{0}")]
    Api(String),
    /// The maps cannot be read.
    #[error("{0}")]
    Maps(String),
}

impl ReloadError {
    /// The whole error in one line, for a log or an event.
    pub fn line(&self) -> String {
        let places = match self {
            Self::Config(error) => error.diagnostics(),
            _ => &[],
        };
        if places.is_empty() {
            return self.to_string().replace('\n', "; ");
        }
        let each = places.iter().map(|found| {
            let Diagnostic {
                file,
                line,
                column,
                message,
                ..
            } = found;
            format!("{file}:{line}:{column}: {message}")
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

fn lines(fixed: &[FixedKey]) -> String {
    let lines: Vec<String> = fixed.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
