//! What is known of each virtual router, and what is told of it.

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

/// What is known of an instance.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What this balancer is to it.
    pub role: Role,
    /// Since when.
    pub since: SystemTime,
    /// Why.
    pub cause: String,
    /// The priority that it has now.
    pub priority: u8,
    /// Where its adverts come from, while it can send any.
    pub source: Option<IpAddr>,
    /// Whether it stays backup until an operator says otherwise.
    pub is_maintained: bool,
    /// The master that is heard, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// Whether that master's adverts are missing, and only its packet path says that it is there.
    pub is_graced: bool,
    /// What it depends on.
    pub tracks: Vec<TrackState>,
    /// AdvertSocket sent.
    pub sent: u64,
    /// AdvertSocket that came and were right.
    pub received: u64,
    /// What came and was not, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// How often a master's packet path was asked whether it goes on.
    pub asked: u64,
    /// How often one answered.
    pub answered: u64,
}

impl Status {
    /// Of one that takes no part yet.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: Role::Out,
            since: SystemTime::now(),
            cause: "it begins".to_owned(),
            priority: 0,
            source: None,
            is_maintained: false,
            master: None,
            is_graced: false,
            tracks: Vec::new(),
            sent: 0,
            received: 0,
            refused: BTreeMap::new(),
            asked: 0,
            answered: 0,
        }
    }
}

/// Where the VRRP thread says how things are. It never waits for whoever reads.
#[derive(Clone)]
pub(super) struct StatusStore {
    statuses: Arc<Mutex<BTreeMap<String, Status>>>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// What is to be told.
pub(super) enum Notice {
    /// An event.
    Event(Happening),
    /// Something is wrong.
    Warning(String),
    /// A role changed, which a hook is told.
    Role(Box<RoleChange>),
    /// All before it is to be told first.
    Last(oneshot::Sender<()>),
}

impl StatusStore {
    /// One with nothing on it, whose notices a task of the calling runtime tells: a log may block.
    pub(super) fn new(events: Events) -> Self {
        let (notices, mut told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut hooks = Hooks::new(events.clone());
            while let Some(notice) = told.recv().await {
                match notice {
                    Notice::Event(happening) => events.record(happening),
                    Notice::Warning(sentence) => tracing::warn!("{sentence}"),
                    Notice::Role(change) => hooks.tell(*change),
                    Notice::Last(done) => {
                        hooks.finish().await;
                        let _ = done.send(());
                    }
                }
            }
        });
        Self {
            statuses: Arc::default(),
            notices,
        }
    }

    /// All that is known.
    pub(super) fn all(&self) -> Vec<Status> {
        self.lock().values().cloned().collect()
    }

    /// One of them.
    pub(super) fn one(&self, name: &str) -> Option<Status> {
        self.lock().get(name).cloned()
    }

    /// Writes down how things are, unless somebody reads just now. Says whether it did.
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

    /// Forgets one.
    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Has something told.
    pub(super) fn tell(&self, notice: Notice) {
        // Whoever tells it ends last.
        let _ = self.notices.send(notice);
    }

    /// Waits until all is told.
    pub(super) async fn told(&self) {
        let (done, is_done) = oneshot::channel();
        self.tell(Notice::Last(done));
        let _ = is_done.await;
    }

    /// Has it told that something is wrong.
    pub(super) fn warn(&self, sentence: String) {
        self.tell(Notice::Warning(sentence));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Status>> {
        // Nothing panics while it holds the lock.
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
