//! The virtual routers of this balancer, as the controller uses them: start, reload, orders,
//! status, end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    driver::{self, Command, TrackedRouter},
    readiness_requests::ReadinessRequests,
    runner,
    status::{Status, StatusStore},
    tracker::{ChangeCounter, Tracker},
};
use crate::{dataplane::Routers, events::Events};
use lb_core::{
    config::Vrrp,
    vrrp::{Services, instance::Role},
};

/// Why virtual routers cannot run.
#[derive(Debug, thiserror::Error)]
pub enum VrrpError {
    /// The thread cannot be started.
    #[error("VRRP cannot run: {0}")]
    Thread(#[from] io::Error),
}

/// An order of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hand over to another balancer.
    Release,
    /// Become master.
    Take,
}

/// Why an order is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// No virtual router has that name.
    Unknown,
    /// The virtual router is maintained: it stays backup.
    Maintained,
    /// The virtual router is not active, for this reason.
    Inactive(String),
    /// The virtual router is not master, so it cannot hand over.
    NotMaster,
    /// The master with this address and priority would take the addresses back at once.
    BetterMaster(IpAddr, u8),
}

/// The running virtual routers. They end when this is dropped. [`Instances::finish`] also waits for
/// their events and hooks.
pub struct Instances {
    store: StatusStore,
    commands: Mutex<Option<mpsc::UnboundedSender<Command>>>,
    /// The tracker of each virtual router, by its name.
    trackers: Mutex<BTreeMap<String, Tracker>>,
    services: watch::Receiver<Services>,
    changes: ChangeCounter,
    requests: Arc<ReadinessRequests>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Instances {
    /// Starts the VRRP thread in the network namespace of the calling thread, without virtual
    /// routers: see [`Instances::apply`]. `services` is the health of each service.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(routers: Routers, services: watch::Receiver<Services>, events: Events) -> Result<Self, VrrpError> {
        let store = StatusStore::new(events);
        let (commands, received) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let changes: ChangeCounter = Arc::new(watch::Sender::new(0));
        let requests = Arc::new(ReadinessRequests::new(services.clone()));
        let driver = driver::run(
            routers,
            store.clone(),
            received,
            changes.subscribe(),
            Arc::clone(&requests),
        );
        let thread = thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || runtime.block_on(driver))?;
        Ok(Self {
            store,
            commands: Mutex::new(Some(commands)),
            trackers: Mutex::default(),
            services,
            changes,
            requests,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs these virtual routers and no others. Returns when the others have handed over.
    pub async fn apply(&self, configs: Vec<Vrrp>) {
        let (done, is_done) = oneshot::channel();
        let tracked = self.track(configs);
        self.send(Command::Apply(tracked, done));
        // The sender is dropped when the thread ends.
        let _ = is_done.await;
    }

    /// Readiness requests of sync groups.
    pub fn readiness_requests(&self) -> &ReadinessRequests {
        &self.requests
    }

    /// Grants the readiness request with that number: this balancer can serve the addresses of the
    /// group.
    pub fn grant_readiness(&self, request: u64) {
        self.requests.close(request);
        self.changes.send_modify(|number| *number += 1);
    }

    /// Starts a tracker for each virtual router. Trackers whose tracks are the same as before are
    /// kept.
    fn track(&self, configs: Vec<Vrrp>) -> Vec<TrackedRouter> {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *trackers);
        let track = |config: Vrrp| {
            let kept = before.remove(&config.name).filter(|kept| kept.tracks == config.tracks);
            let start = || Tracker::start(config.tracks.clone(), &self.services, &self.changes);
            let tracker = kept.unwrap_or_else(start);
            let track_result = tracker.result();
            trackers.insert(config.name.clone(), tracker);
            TrackedRouter { config, track_result }
        };
        configs.into_iter().map(track).collect()
    }

    /// Keeps the virtual routers with these names backup, and no others.
    pub fn maintain(&self, names: BTreeSet<String>) {
        self.send(Command::Maintain(Arc::new(names)));
    }

    /// The status of every virtual router.
    pub fn status(&self) -> Vec<Status> {
        self.store.all()
    }

    /// Gives an order to the sync group of a virtual router.
    ///
    /// # Errors
    ///
    /// When the order is refused.
    pub fn order(&self, name: &str, order: Order) -> Result<(), OrderError> {
        let status = self.store.one(name).ok_or(OrderError::Unknown)?;
        let order = match order {
            Order::Release if status.role != Role::Master => return Err(OrderError::NotMaster),
            Order::Release => runner::Order::Release,
            Order::Take if status.role.is_inactive() => return Err(OrderError::Inactive(status.cause)),
            Order::Take if status.is_maintained => return Err(OrderError::Maintained),
            // Of two masters with the same priority, the one with the higher address wins.
            Order::Take
                if let Some((master, priority)) = status.master
                    && (priority, Some(master)) > (status.priority, status.source) =>
            {
                return Err(OrderError::BetterMaster(master, priority));
            }
            Order::Take => runner::Order::Take,
        };
        self.send(Command::Order(name.to_owned(), order));
        Ok(())
    }

    /// Hands over what this balancer is master of, ends, and waits until all events are recorded
    /// and hooks have ended.
    pub async fn finish(&self) {
        tokio::task::block_in_place(|| self.end());
        self.store.flush().await;
    }

    fn end(&self) {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(commands);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn send(&self, command: Command) {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commands) = commands.as_ref() {
            let _ = commands.send(command);
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.end();
    }
}
