//! Status of all virtual routers, and the task that records their events and calls their hooks.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::{mpsc, oneshot};

use super::hooks::{Hooks, RoleChange};
use crate::events::{Events, Happening};
use lb_core::vrrp::{TrackState, advert::Refused, instance::Role};

/// Status of a virtual router.
#[derive(Clone, Debug)]
pub struct Status {
    /// Name of the virtual router.
    pub name: String,
    /// Role of this balancer.
    pub role: Role,
    /// Since when it has this role.
    pub since: SystemTime,
    /// Why it has this role.
    pub cause: String,
    /// Effective priority: 1 to 255. 0 before it is known.
    pub priority: u8,
    /// Source address of its adverts. `None`: it cannot send any.
    pub source: Option<IpAddr>,
    /// Whether it stays backup until an operator resumes it.
    pub is_maintained: bool,
    /// The master that is heard, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// Whether that master's adverts are missing, and only its packet path replies.
    pub is_in_grace: bool,
    /// Conditions that it depends on.
    pub tracks: Vec<TrackState>,
    /// Number of adverts sent.
    pub sent: u64,
    /// Number of valid adverts received.
    pub received: u64,
    /// Number of refused adverts, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Number of echoes sent to packet paths of masters.
    pub echoes_sent: u64,
    /// Number of replies to them.
    pub echo_replies: u64,
}

impl Status {
    /// Status of a virtual router that starts.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: Role::Initialize,
            since: SystemTime::now(),
            cause: "starting".to_owned(),
            priority: 0,
            source: None,
            is_maintained: false,
            master: None,
            is_in_grace: false,
            tracks: Vec::new(),
            sent: 0,
            received: 0,
            refused: BTreeMap::new(),
            echoes_sent: 0,
            echo_replies: 0,
        }
    }
}

/// The status of each virtual router. The VRRP thread writes it and never waits for a reader.
#[derive(Clone)]
pub(super) struct StatusStore {
    statuses: Arc<Mutex<BTreeMap<String, Status>>>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// Something to report outside the VRRP thread.
pub(super) enum Notice {
    /// Record an event.
    Event(Happening),
    /// Log a warning.
    Warning(String),
    /// Call the hook about a changed role.
    Role(Box<RoleChange>),
    /// Reply when everything before this notice is reported.
    Last(oneshot::Sender<()>),
}

impl StatusStore {
    /// An empty store. A task of the calling runtime reports its notices, because a log may block.
    pub(super) fn new(events: Events) -> Self {
        let (notices, received) = mpsc::unbounded_channel();
        tokio::spawn(report(received, events));
        Self {
            statuses: Arc::default(),
            notices,
        }
    }

    /// The status of every virtual router.
    pub(super) fn all(&self) -> Vec<Status> {
        self.lock().values().cloned().collect()
    }

    /// The status of the virtual router with that name.
    pub(super) fn one(&self, name: &str) -> Option<Status> {
        self.lock().get(name).cloned()
    }

    /// Stores a status, unless somebody reads at this moment. Returns whether it did.
    pub(super) fn publish(&self, status: &Status) -> bool {
        let Ok(mut statuses) = self.statuses.try_lock() else {
            return false;
        };
        match statuses.get_mut(&status.name) {
            Some(known) => known.clone_from(status),
            None => drop(statuses.insert(status.name.clone(), status.clone())),
        }
        true
    }

    /// Removes the status of the virtual router with that name.
    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Queues a notice.
    pub(super) fn notify(&self, notice: Notice) {
        // The receiver ends last.
        let _ = self.notices.send(notice);
    }

    /// Queues a warning.
    pub(super) fn warn(&self, sentence: String) {
        self.notify(Notice::Warning(sentence));
    }

    /// Waits until all notices are reported.
    pub(super) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        self.notify(Notice::Last(done));
        let _ = is_done.await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Status>> {
        // Nothing panics while it holds the lock.
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports notices until all stores are dropped.
async fn report(mut notices: mpsc::UnboundedReceiver<Notice>, events: Events) {
    let mut hooks = Hooks::new(events.clone());
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Event(happening) => events.record(happening),
            Notice::Warning(sentence) => tracing::warn!("{sentence}"),
            Notice::Role(change) => hooks.call(*change),
            Notice::Last(done) => {
                hooks.finish().await;
                let _ = done.send(());
            }
        }
    }
}
