//! The thread that virtual routers run on: each group of them is a task.

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
    reporter::{ENDS, LEAVES},
    runner::{Order, Runner},
    status::StatusStore,
};
use crate::dataplane::Routers;
use lb_core::config::Vrrp;
use lb_core::vrrp::TrackResult;

/// How long ending may take: the second in which the next master is waited for, and two for devices and addresses.
const PATIENCE: Duration = Duration::from_secs(3);
/// Priority among threads that run before all ordinary ones.
const REAL_TIME: libc::c_int = 20;

/// What the thread is told.
pub(super) enum Command {
    /// An order for the group of a virtual router.
    Order(String, Order),
    /// Which virtual routers stay backup.
    Maintain(Arc<BTreeSet<String>>),
    /// Which virtual routers there are from now on; says when that is so.
    Apply(Vec<TrackedRouter>, oneshot::Sender<()>),
}

/// A virtual router, and what it depends on means to it.
pub(super) struct TrackedRouter {
    pub(super) config: Vrrp,
    pub(super) track_result: watch::Receiver<TrackResult>,
}

/// Lets the thread run before others, and keeps its memory, so that adverts go out and are heard in time.
fn set_realtime_priority() {
    let parameters = libc::sched_param {
        sched_priority: REAL_TIME,
    };
    // SAFETY: the parameters live through the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) } != 0
    {
        let error = io::Error::last_os_error();
        tracing::warn!(%error, "VRRP runs without real-time priority (CAP_SYS_NICE): a busy processor may delay adverts");
    }
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT) {
        tracing::warn!(%error, "the memory of VRRP is not locked (CAP_IPC_LOCK): a machine that swaps may delay adverts");
    }
}

/// The groups that run.
pub(super) struct Driver {
    kernel: NetlinkThreads,
    routers: Arc<Routers>,
    store: StatusStore,
    /// Counts changes of what virtual routers depend on.
    news: watch::Receiver<u64>,
    fitness: Arc<ReadinessRequests>,
    maintained: Arc<BTreeSet<String>>,
    groups: BTreeMap<Key, Running>,
    is_realtime: bool,
}

/// See [`Vrrp::moves_with`].
type Key = (bool, String);

struct Running {
    configs: Vec<Vrrp>,
    orders: mpsc::UnboundedSender<Order>,
    /// Tells it to end, and why.
    end: oneshot::Sender<&'static str>,
    task: JoinHandle<()>,
}

/// Runs virtual routers until the other side of `commands` is dropped.
pub(super) async fn run(
    routers: Routers,
    store: StatusStore,
    mut commands: mpsc::UnboundedReceiver<Command>,
    news: watch::Receiver<u64>,
    fitness: Arc<ReadinessRequests>,
) {
    let opened = NetlinkThreads::open();
    let kernel = match opened {
        Ok(kernel) => kernel,
        Err(error) => {
            tracing::error!(%error, "VRRP cannot ask the kernel");
            return;
        }
    };
    let mut driver = Driver {
        kernel,
        routers: Arc::new(routers),
        store,
        news,
        fitness,
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
    end(&driver.store, groups.into_values(), ENDS).await;
}

/// Ends groups: what this balancer is master of is handed over.
async fn end(store: &StatusStore, groups: impl Iterator<Item = Running>, cause: &'static str) {
    let mut tasks: Vec<_> = groups
        .map(|running| {
            let _ = running.end.send(cause);
            running.task
        })
        .collect();
    let ended = futures_util::future::join_all(&mut tasks);
    if tokio::time::timeout(PATIENCE, ended).await.is_err() {
        store.warn(format!(
            "virtual routers did not end within {} s: addresses of theirs may be left, until the next start",
            PATIENCE.as_secs()
        ));
        // None goes on beside whatever takes its place.
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

    /// Lets these virtual routers run and no others. Those that stay what they were to others do not stop for it.
    async fn apply(&mut self, followed: Vec<TrackedRouter>) {
        if !followed.is_empty() && !self.is_realtime {
            self.is_realtime = true;
            set_realtime_priority();
            self.kernel.begin();
        }
        let wanted = followed.iter().map(|TrackedRouter { config, .. }| config).collect();
        let mut groups: BTreeMap<Key, Vec<TrackedRouter>> = BTreeMap::new();
        for followed in followed {
            let (is_group, name) = followed.config.moves_with();
            groups.entry((is_group, name.to_owned())).or_default().push(followed);
        }
        // Their order in the file says nothing.
        for members in groups.values_mut() {
            members.sort_by(|one, other| one.config.name.cmp(&other.config.name));
        }
        let before = std::mem::take(&mut self.groups);
        let mut leaving = Vec::new();
        for (key, mut running) in before {
            match groups.remove(&key) {
                Some(followed) if is_same(&running.configs, &followed) => {
                    let configs: Vec<_> = followed.iter().map(|followed| followed.config.clone()).collect();
                    if running.configs != configs {
                        running.configs = configs;
                        let _ = running.orders.send(Order::Change(followed));
                    }
                    self.groups.insert(key, running);
                }
                other => {
                    leaving.push(running);
                    if let Some(followed) = other {
                        groups.insert(key, followed);
                    }
                }
            }
        }
        end(&self.store, leaving.into_iter(), LEAVES).await;
        for failure in cleanup::reap(&self.kernel.slow, &self.routers, &wanted).await {
            self.store.warn(failure);
        }
        for (key, followed) in groups {
            self.start(key, followed);
        }
    }

    fn start(&mut self, key: Key, followed: Vec<TrackedRouter>) {
        let configs = followed.iter().map(|followed| followed.config.clone()).collect();
        let (orders, received) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let _ = orders.send(Order::Maintain(Arc::clone(&self.maintained)));
        let runner = Runner::new(followed, &self.kernel, &self.routers, &self.store, &self.fitness);
        let task = tokio::spawn(runner.run(received, self.news.clone(), ended));
        let running = Running {
            configs,
            orders,
            end,
            task,
        };
        self.groups.insert(key, running);
    }
}

/// Whether these are the same virtual routers to others, so that what differs can change while they run.
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
