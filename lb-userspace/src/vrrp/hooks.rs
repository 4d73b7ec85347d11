//! Tells commands of the operator that a role changed: one after the other for each virtual router, on ordinary threads.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    events::{Events, Happening, Kind},
    system::command,
};
use lb_core::config::Hook;
use lb_core::vrrp::instance::Role;

/// How many changes may wait for the hook of one virtual router; of more, only the last ones are told.
const MOST_WAITING: usize = 16;

/// A change of a role.
#[derive(Clone, Debug)]
pub(super) struct RoleChange {
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) addresses: Vec<String>,
    pub(super) former: Role,
    pub(super) role: Role,
    pub(super) cause: String,
    pub(super) hook: Hook,
}

/// Runs the hooks.
pub(super) struct Hooks {
    events: Events,
    desks: BTreeMap<String, mpsc::UnboundedSender<RoleChange>>,
    workers: JoinSet<()>,
    /// The longest time that one of them may take.
    patience: Duration,
}

impl Hooks {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            desks: BTreeMap::new(),
            workers: JoinSet::new(),
            patience: Duration::ZERO,
        }
    }

    /// Has a change told, after those before it. Must be called within a runtime.
    pub(super) fn tell(&mut self, change: RoleChange) {
        self.patience = self.patience.max(change.hook.timeout);
        let (events, workers) = (&self.events, &mut self.workers);
        let orders = self.desks.entry(change.name.clone()).or_insert_with(|| {
            let (orders, given) = mpsc::unbounded_channel();
            workers.spawn(work(given, events.clone()));
            orders
        });
        let _ = orders.send(change);
    }

    /// Waits until all that was to be told is, at most for as long as one hook may take.
    pub(super) async fn finish(&mut self) {
        self.desks.clear();
        let end = Instant::now() + self.patience;
        while let Ok(Some(_)) = timeout_at(end, self.workers.join_next()).await {}
        if !self.workers.is_empty() {
            tracing::warn!("hooks of virtual routers did not end in time: they are killed");
        }
    }
}

async fn work(mut given: mpsc::UnboundedReceiver<RoleChange>, events: Events) {
    while let Some(mut change) = given.recv().await {
        while given.len() >= MOST_WAITING {
            match given.try_recv() {
                Ok(later) => change = later,
                Err(_) => break,
            }
        }
        if let Err(how) = run(&change).await {
            let program = change.hook.command.argv.first().map_or("", String::as_str);
            let cause = format!("{program} for {}: {how}", change.role.word());
            events.record(Happening::new(Kind::VrrpHookFailed, cause).of_router(&change.name, &change.interface));
        }
    }
}

async fn run(change: &RoleChange) -> Result<(), String> {
    let Hook {
        command: hook,
        timeout: patience,
    } = &change.hook;
    let user = command::user(&hook.user, true).map_err(|error| error.to_string())?;
    let mut environment = hook.environment.clone();
    environment.extend([
        ("LBD_VRRP_INSTANCE".to_owned(), change.name.clone()),
        ("LBD_VRRP_ROLE".to_owned(), change.role.word().to_owned()),
        ("LBD_VRRP_FORMER_ROLE".to_owned(), change.former.word().to_owned()),
        ("LBD_VRRP_CAUSE".to_owned(), change.cause.clone()),
        ("LBD_VRRP_INTERFACE".to_owned(), change.interface.clone()),
        ("LBD_VRRP_ADDRESSES".to_owned(), change.addresses.join(" ")),
    ]);
    let ran = command::run(&hook.argv, &environment, &user);
    let told = |patience: &Duration| format!("killed after {patience:?}");
    match timeout(*patience, ran).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(told(patience)),
    }
}
