//! Why a configuration is not put into force.

use super::Fixed;
use crate::config::{ConfigError, Diagnostic};

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
    #[error("the maps that are in use have no room for it: {}; `lbd run --replace-maps` in place of the next start changes their sizes, and ends connections of nat and dnat", .0.join("; "))]
    NoRoom(Vec<String>),
    /// Files cannot be read in time.
    #[error("{0}")]
    Slow(String),
    /// What it means to operators' overrides cannot be saved.
    #[error("{0}; nothing is changed, since what is not on the disk would be forgotten by the next start")]
    Unsaved(String),
    /// An interface cannot be had.
    #[error("{0}")]
    Interface(String),
    /// The admin API cannot be served as it asks for.
    #[error("{0}")]
    Api(String),
    /// The maps cannot be read.
    #[error("{0}")]
    Maps(String),
}

impl ReloadError {
    /// All of it in one line, for a log or an event.
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

fn lines(fixed: &[Fixed]) -> String {
    let lines: Vec<String> = fixed.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
