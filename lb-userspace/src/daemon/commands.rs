//! What the admin API asks the controller to do: commands are carried out one after the other, by its loop.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{flushing::Flusher, inspect::Inspector};
use crate::{
    admin::{Control, ControlError, nothing_named},
    api::{FlowFilter, Flushed},
    dataplane::explain::{Explanation, Question},
    events::Events,
    vrrp,
};
use lb_core::config::BackendId;
use lb_core::{
    config::Config,
    overrides::Verb,
    reload::{ReloadError, Report},
};

/// Something to do.
pub(super) enum Command {
    /// Put the configuration file into force, or say what that would change.
    Reload {
        dry_run: bool,
        reply: oneshot::Sender<Result<Report, ReloadError>>,
    },
    /// Carry out what an operator decided about a backend.
    Override {
        id: BackendId,
        verb: Verb,
        reply: oneshot::Sender<Result<(), ControlError>>,
    },
    /// Keep this balancer backup of a virtual router, or let it take part as before.
    Maintain {
        name: String,
        is_maintained: bool,
        reply: oneshot::Sender<Result<(), ControlError>>,
    },
}

/// Hands commands to the loop and waits for their ends.
pub(super) struct Remote {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: Events,
    pub(super) flusher: Flusher,
    pub(super) inspector: Arc<Inspector>,
}

impl Remote {
    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ControlError> {
        let gone = || ControlError::Failed("the controller ends".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.blocking_send(command(reply)).map_err(|_| gone())?;
        answer.blocking_recv().map_err(|_| gone())
    }
}

/// There is no virtual router of that name.
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
            Unknown => no_router(self.inspector.in_force().config(), name),
            Maintained => ControlError::Refused(format!(
                "{name} is maintained: it stays backup until `lbctl vrrp resume {name}`"
            )),
            Inactive(cause) => ControlError::Refused(format!("{name} is not active: {cause}")),
            BetterMaster(master, priority) => ControlError::Refused(format!(
                "{master} has priority {priority} and would take the addresses back at once: release or maintain {name} there"
            )),
            NotMaster => ControlError::Refused(format!(
                "this balancer is not master of {name}: it has nothing to hand over"
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
