//! The active configuration: file, health check targets, operators' overrides and warnings.

use std::sync::Arc;

use crate::health::Targets;
use lb_core::{config::Config, overrides::Overrides, reload::Source};

/// The active configuration. It is never changed in place. It is replaced as a whole, so that a
/// reader sees parts that belong together.
#[derive(Clone)]
pub(super) struct ActiveConfig {
    /// The configuration and the file that it comes from.
    pub(super) source: Arc<Source>,
    /// The health checks to run.
    pub(super) targets: Arc<Targets>,
    /// Decisions of operators: drain, disable, weight, maintain.
    pub(super) overrides: Arc<Overrides>,
    /// Warnings for the operator, each a sentence.
    pub(super) warnings: Vec<String>,
}

impl ActiveConfig {
    /// The configuration.
    pub(super) fn config(&self) -> &Config {
        &self.source.config
    }
}
