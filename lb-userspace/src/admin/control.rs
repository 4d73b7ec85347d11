//! What the admin API asks the controller to do.

use crate::api::{FlowFilter, Flushed};
use crate::{
    dataplane::explain::{Explanation, Question},
    events::Events,
    vrrp,
};
use lb_core::{
    config::BackendId,
    overrides::{Refused, Verb},
    reload::{ReloadError, Report},
};

/// Carries out requests that change something, and those about the controller itself. The methods
/// may block: they are called on threads for that.
pub trait Control: Send + Sync {
    /// Applies the configuration file, or only shows what would change.
    ///
    /// # Errors
    ///
    /// If the file is refused. Then nothing has changed.
    fn reload(&self, dry_run: bool) -> Result<Report, ControlError>;

    /// Sets or clears an override of a backend. It is in the maps and on the disk when this
    /// returns.
    ///
    /// # Errors
    ///
    /// If the backend does not exist, its state does not allow it, or the override cannot be saved.
    fn override_backend(&self, id: BackendId, verb: Verb) -> Result<(), ControlError>;

    /// Hands a virtual router over, or takes it.
    ///
    /// # Errors
    ///
    /// If it does not exist, or its state does not allow it.
    fn order_vrrp(&self, name: &str, order: vrrp::Order) -> Result<(), ControlError>;

    /// Keeps this balancer backup of a virtual router and its sync group, also after a restart; or
    /// ends that.
    ///
    /// # Errors
    ///
    /// If it does not exist, or the override cannot be saved.
    fn maintain_vrrp(&self, name: &str, is_maintained: bool) -> Result<(), ControlError>;

    /// Ends the flows that match the filter.
    ///
    /// # Errors
    ///
    /// If the filter names something that does not exist, or the clock of the flow table cannot be
    /// read.
    fn flush(&self, filter: &FlowFilter) -> Result<Flushed, ControlError>;

    /// Shows which backend a packet goes to, and why.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    fn explain(&self, question: &Question) -> Result<Explanation, ControlError>;

    /// The journal of the daemon.
    fn events(&self) -> &Events;
}

/// A request could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// What the request names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The present state does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The configuration file is refused.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// The controller failed.
    #[error("{0}")]
    Failed(String),
}

impl From<Refused> for ControlError {
    fn from(Refused(sentence): Refused) -> Self {
        Self::Refused(sentence)
    }
}

/// A sentence for an unknown name, with the known names if there are at most ten.
pub(crate) fn nothing_named<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const MOST_SHOWN: usize = 10;
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup();
    let name = name.escape_debug();
    match known.len() {
        0 => format!("there is no {kind} `{name}`; there are none"),
        1..=MOST_SHOWN => format!("there is no {kind} `{name}`; there are: {}", known.join(", ")),
        more => format!("there is no {kind} `{name}` among {more}"),
    }
}
