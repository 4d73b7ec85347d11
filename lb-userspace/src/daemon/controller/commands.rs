//! Commands of the admin API. Its threads send them to the controller's loop and wait for replies.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    admin::{Control, ControlError, nothing_named},
    api::{FlowFilter, Flushed},
    daemon::{flows::Flusher, inspect::Inspector},
    dataplane::explain::{Explanation, Question},
    events::Events,
    vrrp,
};
use lb_core::{
    config::{BackendId, Config},
    overrides::Verb,
    reload::{ReloadError, Report},
};

/// A command for the controller's loop.
pub(in crate::daemon) enum Command {
    /// Load the configuration file and apply it; or, as a dry run, report what would change.
    Reload {
        dry_run: bool,
        reply: oneshot::Sender<Result<Report, ReloadError>>,
    },
    /// Carry out an override of a backend.
    Override {
        id: BackendId,
        verb: Verb,
        reply: oneshot::Sender<Result<(), ControlError>>,
    },
    /// Put a virtual router into maintenance, or end its maintenance.
    Maintain {
        name: String,
        is_maintained: bool,
        reply: oneshot::Sender<Result<(), ControlError>>,
    },
}

/// Sends commands to the loop and waits for the replies.
pub(in crate::daemon) struct Remote {
    pub(in crate::daemon) commands: mpsc::Sender<Command>,
    pub(in crate::daemon) events: Events,
    pub(in crate::daemon) flusher: Flusher,
    pub(in crate::daemon) inspector: Arc<Inspector>,
}

impl Remote {
    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ControlError> {
        let gone = || ControlError::Failed("the controller is shutting down".to_owned());
        let (reply, received) = oneshot::channel();
        self.commands.blocking_send(command(reply)).map_err(|_| gone())?;
        received.blocking_recv().map_err(|_| gone())
    }
}

/// The error for a name that no virtual router has.
pub(super) fn no_router(config: &Config, name: &str) -> ControlError {
    let known = config.vrrp.iter().map(|router| router.name.as_str());
    ControlError::NotFound(nothing_named("virtual router", name, known))
}

impl Control for Remote {
    fn reload(&self, dry_run: bool) -> Result<Report, ControlError> {
        Ok(self.ask(|reply| Command::Reload { dry_run, reply })??)
    }

    fn override_backend(&self, id: BackendId, verb: Verb) -> Result<(), ControlError> {
        self.ask(|reply| Command::Override { id, verb, reply })?
    }

    fn order_vrrp(&self, name: &str, order: vrrp::Order) -> Result<(), ControlError> {
        use vrrp::OrderError::{BetterMaster, Inactive, Maintained, NotMaster, Unknown};
        self.inspector.vrrp.order(name, order).map_err(|reason| match reason {
            Unknown => no_router(self.inspector.active().config(), name),
            Maintained => ControlError::Refused(format!(
                "{name} is in maintenance: it stays backup until `lbctl vrrp resume {name}`"
            )),
            Inactive(cause) => ControlError::Refused(format!("{name} is not active: {cause}")),
            BetterMaster(master, priority) => ControlError::Refused(format!(
                "{master} has priority {priority} and would take the addresses back at once: \
                 run `lbctl vrrp release {name}` or `lbctl vrrp maintain {name}` there"
            )),
            NotMaster => ControlError::Refused(format!(
                "this balancer is not master of {name}: it has no addresses to release"
            )),
        })
    }

    fn maintain_vrrp(&self, name: &str, is_maintained: bool) -> Result<(), ControlError> {
        let name = name.to_owned();
        self.ask(|reply| Command::Maintain {
            name,
            is_maintained,
            reply,
        })?
    }

    fn flush(&self, filter: &FlowFilter) -> Result<Flushed, ControlError> {
        self.inspector.is_known(filter)?;
        self.flusher.flush(&self.inspector, filter, &self.events)
    }

    fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        self.inspector.explain(question)
    }

    fn events(&self) -> &Events {
        &self.events
    }
}
