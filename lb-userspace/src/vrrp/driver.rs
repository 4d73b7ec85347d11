//! The VRRP thread. Each sync group runs as a task on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use nix::{
    libc,
    sys::mman::{MlockAllFlags, mlockall},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    cleanup,
    netlink_threads::NetlinkThreads,
    readiness_requests::ReadinessRequests,
    runner::{Order, Runner, STOPS},
    status::StatusStore,
};
use crate::dataplane::Routers;
use lb_core::{config::Vrrp, vrrp::TrackResult};

/// How long groups may take to end: one second to wait for the next master, and two for devices and
/// addresses.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// Real-time priority of the thread: 1 to 99. Real-time threads run before all others.
const REALTIME_PRIORITY: libc::c_int = 20;

/// Cause of the role initialize when a reload removes or replaces a virtual router.
const REPLACED: &str = "removed or replaced by a reload";

/// A command to the thread.
pub(super) enum Command {
    /// An order to the sync group of the virtual router with that name.
    Order(String, Order),
    /// The virtual routers with these names stay backup, all others do not.
    Maintain(Arc<BTreeSet<String>>),
    /// Run these virtual routers and no others. The sender reports when they run.
    Apply(Vec<TrackedRouter>, oneshot::Sender<()>),
}

/// Configuration of a virtual router, and the result of its tracks.
pub(super) struct TrackedRouter {
    pub(super) config: Vrrp,
    pub(super) track_result: watch::Receiver<TrackResult>,
}

/// Gives the calling thread real-time priority and locks its memory, so that adverts are sent and
/// read in time.
fn set_realtime_priority() {
    let parameters = libc::sched_param {
        sched_priority: REALTIME_PRIORITY,
    };
    // SAFETY: the parameters live through the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) } != 0
    {
        let error = io::Error::last_os_error();
        tracing::warn!(%error, "VRRP runs without real-time priority: a busy processor may delay adverts; give `lbd` CAP_SYS_NICE");
    }
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT) {
        tracing::warn!(%error, "the memory of VRRP is not locked: swapping may delay adverts; give `lbd` CAP_IPC_LOCK");
    }
}

/// The sync groups that run.
pub(super) struct Driver {
    netlink: NetlinkThreads,
    routers: Arc<Routers>,
    store: StatusStore,
    /// Counts changes of tracks and readiness.
    conditions: watch::Receiver<u64>,
    requests: Arc<ReadinessRequests>,
    maintained: Arc<BTreeSet<String>>,
    groups: BTreeMap<Key, Running>,
    is_realtime: bool,
}

/// See [`Vrrp::sync_group_key`].
type Key = (bool, String);

struct Running {
    configs: Vec<Vrrp>,
    orders: mpsc::UnboundedSender<Order>,
    /// Ends the group. The value is the cause.
    end: oneshot::Sender<&'static str>,
    task: JoinHandle<()>,
}

/// Runs virtual routers until the other side of `commands` is dropped.
pub(super) async fn run(
    routers: Routers,
    store: StatusStore,
    mut commands: mpsc::UnboundedReceiver<Command>,
    conditions: watch::Receiver<u64>,
    requests: Arc<ReadinessRequests>,
) {
    let opened = NetlinkThreads::open();
    let netlink = match opened {
        Ok(netlink) => netlink,
        Err(error) => {
            tracing::error!(%error, "VRRP cannot run: netlink sockets cannot be opened");
            return;
        }
    };
    let mut driver = Driver {
        netlink,
        routers: Arc::new(routers),
        store,
        conditions,
        requests,
        maintained: Arc::default(),
        groups: BTreeMap::new(),
        is_realtime: false,
    };
    while let Some(command) = commands.recv().await {
        match command {
            Command::Order(name, order) => driver.order(&name, order),
            Command::Maintain(names) => driver.maintain(names),
            Command::Apply(configs, done) => {
                driver.apply(configs).await;
                let _ = done.send(());
            }
        }
    }
    let groups = std::mem::take(&mut driver.groups);
    end(&driver.store, groups.into_values(), STOPS).await;
}

/// Ends groups. What this balancer is master of is handed over.
async fn end(store: &StatusStore, groups: impl Iterator<Item = Running>, cause: &'static str) {
    let mut tasks: Vec<_> = groups
        .map(|running| {
            let _ = running.end.send(cause);
            running.task
        })
        .collect();
    let ended = futures_util::future::join_all(&mut tasks);
    if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
        store.warn(format!(
            "virtual routers did not end within {} s: their addresses may stay until the next start",
            END_TIMEOUT.as_secs()
        ));
        // None may run beside its replacement.
        tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Driver {
    fn order(&self, name: &str, order: Order) {
        let has = |running: &&Running| running.configs.iter().any(|config| config.name == name);
        if let Some(running) = self.groups.values().find(has) {
            let _ = running.orders.send(order);
        }
    }

    fn maintain(&mut self, names: Arc<BTreeSet<String>>) {
        self.maintained = names;
        for running in self.groups.values() {
            let _ = running.orders.send(Order::Maintain(Arc::clone(&self.maintained)));
        }
    }

    /// Runs these virtual routers and no others. A group that is the same for other balancers keeps
    /// running.
    async fn apply(&mut self, tracked: Vec<TrackedRouter>) {
        if !tracked.is_empty() && !self.is_realtime {
            self.is_realtime = true;
            set_realtime_priority();
            self.netlink.begin();
        }
        let wanted = tracked.iter().map(|TrackedRouter { config, .. }| config).collect();
        let mut groups: BTreeMap<Key, Vec<TrackedRouter>> = BTreeMap::new();
        for tracked in tracked {
            let (is_group, name) = tracked.config.sync_group_key();
            groups.entry((is_group, name.to_owned())).or_default().push(tracked);
        }
        // The order in the file does not matter.
        for routers in groups.values_mut() {
            routers.sort_by(|one, other| one.config.name.cmp(&other.config.name));
        }
        let before = std::mem::take(&mut self.groups);
        let mut leaving = Vec::new();
        for (key, mut running) in before {
            match groups.remove(&key) {
                Some(tracked) if is_same(&running.configs, &tracked) => {
                    let configs: Vec<_> = tracked.iter().map(|tracked| tracked.config.clone()).collect();
                    if running.configs != configs {
                        running.configs = configs;
                        let _ = running.orders.send(Order::Change(tracked));
                    }
                    self.groups.insert(key, running);
                }
                other => {
                    leaving.push(running);
                    if let Some(tracked) = other {
                        groups.insert(key, tracked);
                    }
                }
            }
        }
        end(&self.store, leaving.into_iter(), REPLACED).await;
        for failure in cleanup::remove_unwanted(&self.netlink.devices, &self.routers, &wanted).await {
            self.store.warn(failure);
        }
        for (key, tracked) in groups {
            self.start(key, tracked);
        }
    }

    fn start(&mut self, key: Key, tracked: Vec<TrackedRouter>) {
        let configs = tracked.iter().map(|tracked| tracked.config.clone()).collect();
        let (orders, received) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let _ = orders.send(Order::Maintain(Arc::clone(&self.maintained)));
        let runner = Runner::new(tracked, &self.netlink, &self.routers, &self.store, &self.requests);
        let task = tokio::spawn(runner.run(received, self.conditions.clone(), ended));
        let running = Running {
            configs,
            orders,
            end,
            task,
        };
        self.groups.insert(key, running);
    }
}

/// Whether these are the same virtual routers for other balancers. Then all differences can change
/// while they run.
fn is_same(before: &[Vrrp], after: &[TrackedRouter]) -> bool {
    let same = |(before, TrackedRouter { config: after, .. }): (&Vrrp, &TrackedRouter)| {
        let family = |vrrp: &Vrrp| vrrp.addresses.first().map(|address| address.addr().is_ipv4());
        before.name == after.name
            && before.interface == after.interface
            && before.router == after.router
            && before.version == after.version
            && before.source == after.source
            && before.router_mac == after.router_mac
            && before.peers.is_empty() == after.peers.is_empty()
            && family(before) == family(after)
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}
