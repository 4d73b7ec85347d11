//! What the admin API asks the controller to do, and to find out about its own doings.

use crate::api::{FlowFilter, Flushed};
use crate::{
    dataplane::explain::{Explanation, Question},
    events::Events,
    vrrp,
};
use lb_core::config::BackendId;
use lb_core::{
    overrides::{Refused, Verb},
    reload::{ReloadError, Report},
};

/// Carries out what the admin API is asked for. The methods may block: they are called on threads that are for that.
pub trait Control: Send + Sync {
    /// Puts the configuration file into force, or only says what that would change.
    ///
    /// # Errors
    ///
    /// When the file is refused; nothing has changed then.
    fn reload(&self, dry_run: bool) -> Result<Report, ControlError>;

    /// Carries out what an operator decided about a backend; it is in the maps and on the disk when this returns.
    ///
    /// # Errors
    ///
    /// When there is no such backend, it makes no sense, or it cannot be saved.
    fn override_backend(&self, id: BackendId, verb: Verb) -> Result<(), ControlError>;

    /// Has a virtual router handed over, or taken.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or it is maintained.
    fn order_vrrp(&self, name: &str, order: vrrp::Order) -> Result<(), ControlError>;

    /// Keeps this balancer backup of a virtual router and those of its group until told otherwise, across restarts; or lets it
    /// take part as before.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or it cannot be saved.
    fn maintain_vrrp(&self, name: &str, is_maintained: bool) -> Result<(), ControlError>;

    /// Ends flows.
    ///
    /// # Errors
    ///
    /// When the clock of the flow table cannot be read.
    fn flush(&self, filter: &FlowFilter) -> Result<Flushed, ControlError>;

    /// Says which backend a packet would get or has.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    fn explain(&self, question: &Question) -> Result<Explanation, ControlError>;

    /// The events of the daemon.
    fn events(&self) -> &Events;
}

/// Something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// What it is about is not there.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense as things are.
    #[error("{0}")]
    Refused(String),
    /// A configuration is refused.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// Something failed.
    #[error("{0}")]
    Failed(String),
}

impl From<Refused> for ControlError {
    fn from(Refused(sentence): Refused) -> Self {
        Self::Refused(sentence)
    }
}

/// Says that there is nothing of this name, and what there is, unless that is too much.
pub(crate) fn nothing_named<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const MOST_SHOWN: usize = 10;
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup();
    let name = name.escape_debug();
    match known.len() {
        0 => format!("there is no {kind} `{name}`, and no other"),
        1..=MOST_SHOWN => format!("there is no {kind} `{name}`; there are: {}", known.join(", ")),
        more => format!("there is no {kind} `{name}` among {more}"),
    }
}
