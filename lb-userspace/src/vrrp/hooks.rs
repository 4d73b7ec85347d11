//! Calls the hooks of virtual routers when their role changes. The calls of one virtual router run
//! one after the other, outside the VRRP thread.

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
use lb_core::{config::Hook, vrrp::instance::Role};

/// How many calls of the hook of one virtual router may wait. Of more, only the latest are made.
const MAX_WAITING: usize = 16;

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

/// The hooks of all virtual routers.
pub(super) struct Hooks {
    events: Events,
    /// The queue of each virtual router, by its name.
    queues: BTreeMap<String, mpsc::UnboundedSender<RoleChange>>,
    workers: JoinSet<()>,
    /// The longest `timeout` of a hook that was called.
    longest: Duration,
}

impl Hooks {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            queues: BTreeMap::new(),
            workers: JoinSet::new(),
            longest: Duration::ZERO,
        }
    }

    /// Queues a call. Must be called within a runtime.
    pub(super) fn call(&mut self, change: RoleChange) {
        self.longest = self.longest.max(change.hook.timeout);
        let (events, workers) = (&self.events, &mut self.workers);
        let queue = self.queues.entry(change.name.clone()).or_insert_with(|| {
            let (queue, received) = mpsc::unbounded_channel();
            workers.spawn(work(received, events.clone()));
            queue
        });
        let _ = queue.send(change);
    }

    /// Waits until all calls have ended, at most for the longest `timeout`.
    pub(super) async fn finish(&mut self) {
        self.queues.clear();
        let end = Instant::now() + self.longest;
        while let Ok(Some(_)) = timeout_at(end, self.workers.join_next()).await {}
        if !self.workers.is_empty() {
            tracing::warn!("hooks of virtual routers did not end in time and are killed");
        }
    }
}

async fn work(mut queue: mpsc::UnboundedReceiver<RoleChange>, events: Events) {
    while let Some(mut change) = queue.recv().await {
        while queue.len() >= MAX_WAITING {
            match queue.try_recv() {
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
        timeout: longest,
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
    match timeout(*longest, command::run(&hook.argv, &environment, &user)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("killed after {longest:?}")),
    }
}
