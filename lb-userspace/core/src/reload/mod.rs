//! Another configuration in place of the one in force: what changes, and what cannot. Pure.

mod difference;
mod error;
mod fixed;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use difference::{compare, renamed};
pub use error::ReloadError;
pub use fixed::{Fixed, fixed};

use crate::config::{self, Config, ConfigError, Flaw};

/// A configuration, and the keys of the file that it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the file means.
    pub config: Config,
    /// What it says.
    document: toml::Table,
    /// The file, for messages.
    file: String,
    text: String,
}

impl Source {
    /// Refuses it for something that it names.
    pub fn refuse(&self, flaw: Flaw) -> ConfigError {
        config::refuse(&self.file, &self.text, &self.config, flaw)
    }

    /// A configuration and the text that it was read from.
    pub fn new(file: &str, config: Config, text: String) -> Self {
        Self {
            config,
            // A file that is a configuration is TOML.
            document: text.parse().unwrap_or_default(),
            file: file.to_owned(),
            text,
        }
    }
}

/// What a reload did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the new configuration is in force now; else it was only looked at.
    pub applied: bool,
    /// The file.
    pub file: String,
    /// What differs, in the order of the new file; what is removed last.
    pub changes: Vec<Change>,
    /// How many writes to the maps that takes.
    pub steps: usize,
    /// What else an operator should know, in sentences.
    pub warnings: Vec<String>,
}

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// The service that it is about; neither that nor a virtual router: the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// The backend of that service that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<String>,
    /// The virtual router that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vrrp: Option<String>,
    /// The key that changes, with dots between tables.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Its value so far, as in the file; none: it was not there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<String>,
    /// Its value from now on; none: it is not there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
    /// What it is, or what comes of it, in a few words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was not there.
    Added,
    /// It is there no more.
    Removed,
    /// It is another.
    Changed,
}
