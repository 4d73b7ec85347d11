//! What is in force: configuration, operators' overrides and warnings, of one moment.

use std::sync::Arc;

use crate::health::Targets;
use lb_core::{config::Config, overrides::Overrides, reload::Source};

/// What is in force. It is never changed, but replaced as a whole, so that whoever looks sees things that fit together.
#[derive(Clone)]
pub(super) struct InForce {
    /// The configuration and its file.
    pub(super) source: Arc<Source>,
    /// What health checks look at.
    pub(super) targets: Arc<Targets>,
    /// What operators decided.
    pub(super) overrides: Arc<Overrides>,
    /// What an operator should know, in sentences.
    pub(super) warnings: Vec<String>,
}

impl InForce {
    /// The configuration.
    pub(super) fn config(&self) -> &Config {
        &self.source.config
    }
}
