//! Compares a changed configuration with the one in force: what changes, and which keys cannot
//! change at run time.

mod difference;
mod error;
mod fixed_keys;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use difference::{compare, renamed};
pub use error::ReloadError;
pub use fixed_keys::{FixedKey, fixed_keys};

use crate::config::{self, Config, ConfigError, UnusableReference};

/// A configuration and the text of its file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The validated configuration.
    pub config: Config,
    /// The keys of the file as written.
    document: toml::Table,
    /// Path of the file, for messages.
    file: String,
    text: String,
}

impl Source {
    /// The error for a reference of the file that this machine cannot use.
    pub fn unusable(&self, reference: UnusableReference) -> ConfigError {
        config::unusable_reference(&self.file, &self.text, &self.config, reference)
    }

    /// `text` is what `config` was parsed from.
    pub fn new(file: &str, config: Config, text: String) -> Self {
        Self {
            config,
            // A valid configuration is valid TOML.
            document: text.parse().unwrap_or_default(),
            file: file.to_owned(),
            text,
        }
    }
}

/// What a reload did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// Whether the new configuration is in force now. `false`: a dry run.
    pub applied: bool,
    /// Path of the file.
    pub file: String,
    /// The differences, in the order of the new file. Removals come last.
    pub changes: Vec<Change>,
    /// Number of map writes that the change needs.
    pub steps: usize,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
}

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// Kind of the difference.
    pub action: Action,
    /// Name of the service. Absent together with `vrrp`: the change is about `[node]` or `[api]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// Name of the backend of that service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<String>,
    /// Name of the virtual router.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vrrp: Option<String>,
    /// The key that changes, with dots between tables. Absent: the whole table is added or removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Old value as in the file. Absent: the key was not set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<String>,
    /// New value as in the file. Absent: the key is not set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
    /// Summary of the table, or the consequence of the change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// Kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Only the new configuration has it.
    Added,
    /// Only the old configuration has it.
    Removed,
    /// Both have it, with different values.
    Changed,
}
