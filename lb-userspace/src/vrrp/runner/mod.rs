//! Runs the virtual routers of one sync group: waits for adverts, timers and orders, and carries
//! out what [`SyncGroup`] decides.

use std::{collections::BTreeSet, future::poll_fn, sync::Arc, task::Poll};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    driver::TrackedRouter,
    interface_snapshot::InterfaceSnapshot,
    lease,
    netlink_threads::NetlinkThreads,
    readiness_requests::{Addresses, ReadinessRequests, ReadinessWait},
    status::StatusStore,
    timer::Timer,
    virtual_router::VirtualRouter,
};
use crate::dataplane::Routers;
use lb_core::{
    config::Vrrp,
    vrrp::{
        instance::{Action, Micros, Role},
        sync_group::{RouterAction, SyncGroup},
    },
};

mod evaluation;

/// Cause of the role initialize when the daemon stops.
pub(super) const STOPS: &str = "the daemon stops";

/// How many adverts of a virtual router are read before due timers run: more than arrive while the
/// process is held up, fewer than a flood brings.
const MAX_READ_AT_ONCE: usize = 256;
/// A timer that is later than this shows that the process slept, in microseconds. It does not know
/// what happened meanwhile.
const SLEPT: Micros = 5_000;

/// An order to a sync group.
pub(super) enum Order {
    /// Hand over now.
    Release,
    /// Become master now.
    Take,
    /// The virtual routers with these names stay backup, all others do not.
    Maintain(Arc<BTreeSet<String>>),
    /// Use a changed configuration of the same virtual routers.
    Change(Vec<TrackedRouter>),
}

/// What a runner waits for, beside its timers.
enum Wake {
    Order(Order),
    /// A track changed, or a readiness request was granted.
    Conditions,
    /// An interface or address changed.
    Interfaces,
    /// A packet came.
    Packets,
}

/// A sync group with its virtual routers.
pub(super) struct Runner {
    group: SyncGroup,
    /// In the order of the group's instances.
    routers: Vec<VirtualRouter>,
    timer: Timer,
    interfaces: watch::Receiver<Option<Arc<InterfaceSnapshot>>>,
    requests: Arc<ReadinessRequests>,
    /// What the group waits for before it is active.
    readiness: ReadinessWait,
    /// The addresses of all virtual routers.
    addresses: Addresses,
    /// When the group last yielded because it could not serve.
    yielded_unfit: Option<Micros>,
    /// Whether it already waited an interval for adverts that may have been lost while it slept.
    has_waited: bool,
}

impl Runner {
    pub(super) fn new(
        tracked: Vec<TrackedRouter>,
        netlink: &NetlinkThreads,
        routers: &Arc<Routers>,
        store: &StatusStore,
        requests: &Arc<ReadinessRequests>,
    ) -> Self {
        let configs = || tracked.iter().map(|TrackedRouter { config, .. }| config);
        let addresses: Addresses = Arc::new(configs().flat_map(Vrrp::hosts).collect());
        let group = SyncGroup::new(configs().map(|config| (config.name.clone(), config.parameters())));
        let router = |tracked| VirtualRouter::new(tracked, netlink.clone(), Arc::clone(routers), store.clone());
        Self {
            group,
            routers: tracked.into_iter().map(router).collect(),
            timer: Timer::new(),
            interfaces: netlink.interfaces.clone(),
            requests: Arc::clone(requests),
            readiness: ReadinessWait::new(requests, &addresses),
            addresses,
            yielded_unfit: None,
            has_waited: false,
        }
    }

    /// Runs until `ended` resolves to a cause, or its sender is dropped. Then hands over what this
    /// balancer is master of.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut conditions: watch::Receiver<u64>,
        mut ended: oneshot::Receiver<&'static str>,
    ) {
        let mut interfaces = self.interfaces.clone();
        interfaces.mark_changed();
        let cause = loop {
            let due = self.due();
            if due.is_some_and(|due| due <= lease::now()) {
                // Timers run even if adverts come without end.
                self.tick().await;
                self.report();
                // Other groups on this thread may be due too.
                tokio::task::yield_now().await;
                continue;
            }
            let (routers, timer) = (&self.routers, &self.timer);
            let wake = tokio::select! {
                biased;
                cause = &mut ended => break cause.unwrap_or(STOPS),
                // These are rare. Adverts may come without end.
                Some(order) = orders.recv() => Wake::Order(order),
                Ok(()) = conditions.changed() => Wake::Conditions,
                Ok(()) = interfaces.changed() => Wake::Interfaces,
                () = packets(routers) => Wake::Packets,
                () = timer.until(due) => continue,
            };
            // A master that slept finds out before it sends anything.
            self.check_lease().await;
            match wake {
                Wake::Order(order) => self.obey(order).await,
                Wake::Conditions => self.reevaluate().await,
                Wake::Interfaces => self.refresh().await,
                Wake::Packets => self.receive().await,
            }
            self.report();
        };
        self.shut_down(cause).await;
    }

    /// Hands over, waits for the next master, and closes everything.
    async fn shut_down(&mut self, cause: &'static str) {
        self.resign_undecided(cause).await;
        let actions = self.group.shutdown(cause);
        self.act(actions).await;
        self.linger().await;
        self.readiness.cancel(&self.requests);
        for router in &mut self.routers {
            router.end().await;
        }
    }

    /// Hands over addresses of which this balancer is still master from before its controller
    /// started, if the controller ends before it decided anything.
    async fn resign_undecided(&mut self, cause: &str) {
        for router in &mut self.routers {
            if router.reporter.role().is_inactive() && router.holds_lease() {
                router.carry_out(Action::SendAdvert(0)).await;
                let became = Action::Become(Role::Initialize, cause.to_owned());
                router.carry_out(became).await;
            }
        }
    }

    /// Waits until the next master is heard, at most until all virtual routers have stopped waiting
    /// for it.
    async fn linger(&mut self) {
        while let Some(until) = self.routers.iter().filter_map(VirtualRouter::lingers_until).max()
            && lease::now() < until
        {
            tokio::select! {
                () = packets(&self.routers) => self.receive().await,
                () = self.timer.until(Some(until)) => {}
            }
            self.tick_routers(lease::now()).await;
        }
    }

    /// Carries out an order.
    async fn obey(&mut self, order: Order) {
        let now = lease::now();
        let actions = match order {
            Order::Release => self.group.release(now),
            Order::Take => self.group.take(now),
            Order::Maintain(names) => {
                let is_maintained = self.routers.iter().any(|router| names.contains(&router.config.name));
                self.group.maintain(is_maintained, now)
            }
            Order::Change(tracked) => {
                let configs = tracked.iter().map(|TrackedRouter { config, .. }| config);
                self.addresses = Arc::new(configs.flat_map(Vrrp::hosts).collect());
                for (router, tracked) in self.routers.iter_mut().zip(tracked) {
                    router.change(tracked).await;
                }
                return self.reevaluate().await;
            }
        };
        self.act(actions).await;
    }

    async fn act(&mut self, actions: Vec<RouterAction>) {
        for (index, action) in actions {
            self.routers[index].carry_out(action).await;
        }
    }

    /// Reports what changed.
    fn report(&mut self) {
        let now = lease::now();
        let is_new = |(index, router): (usize, &VirtualRouter)| {
            let instance = self.group.instance(index);
            router.reporter.is_priority_new(instance)
        };
        // The least priority in a group is that of all, so the tracks of all may have changed it.
        let tracks = if self.routers.iter().enumerate().any(is_new) {
            self.routers.iter().flat_map(VirtualRouter::tracks).collect()
        } else {
            Vec::new()
        };
        for (index, router) in self.routers.iter_mut().enumerate() {
            router.report(self.group.instance(index), &tracks, now);
        }
    }
}

/// Packets and timers.
impl Runner {
    /// When the next timer expires.
    fn due(&self) -> Option<Micros> {
        let routers = self.routers.iter().filter_map(VirtualRouter::deadline);
        routers.chain(self.group.deadline()).min()
    }

    /// Reads received packets.
    async fn receive(&mut self) {
        for index in 0..self.routers.len() {
            for _ in 0..MAX_READ_AT_ONCE {
                let Some(received) = self.routers[index].receive_advert() else {
                    break;
                };
                // A refused packet changes nothing.
                let Ok(heard) = received else { continue };
                self.has_waited = false;
                self.yield_if_unfit(index, &heard).await;
                let actions = self
                    .group
                    .handle_advert(index, heard.from, heard.own, &heard.advert, heard.at);
                self.act(actions).await;
            }
            for _ in 0..MAX_READ_AT_ONCE {
                let Some(reply) = self.routers[index].receive_echo_reply() else {
                    break;
                };
                self.group.handle_echo_reply(index, reply, lease::now());
            }
        }
    }

    /// Becomes backup, if a lease was lost while the process slept.
    async fn check_lease(&mut self) {
        if self.routers.iter().any(VirtualRouter::has_lost_lease) {
            let actions = self.group.lease_lost(lease::now());
            self.act(actions).await;
        }
    }

    /// Does what is due. If the process slept, it first reads what came meanwhile: a master that
    /// was heard is alive.
    async fn tick(&mut self) {
        let due = self.group.deadline();
        self.check_lease().await;
        self.receive().await;
        let now = lease::now();
        let is_still_due = self.group.deadline().is_some_and(|due| due <= now);
        let has_slept = due.is_some_and(|due| now > due + SLEPT) && is_still_due;
        if has_slept && !self.has_waited && !self.saw_silence() {
            // Adverts may have been lost while nobody read them.
            self.has_waited = true;
            self.group.postpone_by_interval(now);
        }
        let actions = self.group.tick(now);
        self.act(actions).await;
        self.tick_routers(now).await;
    }

    /// Runs the timers of the virtual routers. It removes the addresses of all of them before it
    /// puts down the first device, which takes time.
    async fn tick_routers(&mut self, now: Micros) {
        for router in &mut self.routers {
            if router.lingers_until().is_some_and(|until| until <= now) {
                router.remove_addresses().await;
            }
        }
        for router in &mut self.routers {
            router.tick(now).await;
        }
    }

    /// Whether the packet path, which never sleeps, saw no advert for as long as a takeover needs.
    fn saw_silence(&self) -> bool {
        let mut routers = self.routers.iter().enumerate();
        routers.all(|(index, router)| router.saw_silence(self.group.instance(index).down_interval()))
    }
}

/// Waits until a virtual router may have received a packet.
async fn packets(routers: &[VirtualRouter]) {
    poll_fn(|context| {
        // Each one is polled, so that each one wakes this task.
        let ready = routers.iter().map(|router| router.poll_ready(context));
        if ready.filter(Poll::is_ready).count() > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
