//! Runs the virtual routers of a group: hears, waits, and carries out what [`SyncGroup`] decides.

use std::{collections::BTreeSet, future::poll_fn, net::IpAddr, sync::Arc, task::Poll};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    driver::TrackedRouter,
    interface_snapshot::InterfaceSnapshot,
    lease,
    netlink_threads::NetlinkThreads,
    readiness_requests::{Addresses, ReadinessRequests, ReadinessWait},
    reporter::{ENDS, WAITS},
    status::StatusStore,
    timer::Timer,
    virtual_router::{Outlook, VirtualRouter},
};
use crate::dataplane::Routers;
use lb_core::config::Vrrp;
use lb_core::vrrp::{
    advert::Advert,
    instance::{Action, Micros, Parameters, Role},
    sync_group::{RouterAction, SyncGroup},
};

/// How many adverts of a virtual router are read before what is due is done: more than come while a process is held up, fewer
/// than a flood brings.
const MOST_AT_ONCE: usize = 256;
/// Who became master so short a time ago may hear the one before still.
const DOUBT_AFTER: Micros = 1_000_000;
/// The least time between two doubts: services without a worker anywhere do not keep addresses moving all the time.
const DOUBT_AGAIN: Micros = 10_000_000;
/// Whoever is later than this slept, and does not know what happened meanwhile.
const SLEPT: Micros = 5_000;

/// What a runner is told.
pub(super) enum Order {
    /// To hand over now.
    Release,
    /// To become master now.
    Take,
    /// Which virtual routers stay backup.
    Maintain(Arc<BTreeSet<String>>),
    /// To follow other configurations of the same virtual routers.
    Change(Vec<TrackedRouter>),
}

/// Why a runner does something before anything is due.
enum Wake {
    Order(Order),
    /// What it depends on has changed.
    News,
    /// Interfaces or addresses have.
    InterfaceSnapshot,
    /// Something came.
    Heard,
}

/// The virtual routers of a group, with what they work with.
pub(super) struct Runner {
    group: SyncGroup,
    members: Vec<VirtualRouter>,
    timer: Timer,
    ground: watch::Receiver<Option<Arc<InterfaceSnapshot>>>,
    fitness: Arc<ReadinessRequests>,
    /// Whether this balancer can serve what the group takes.
    fit: ReadinessWait,
    /// The addresses of all members.
    addresses: Addresses,
    /// When it gave up last because it could not serve.
    doubted: Option<Micros>,
    /// Whether it has waited once for adverts that could have come while it slept.
    waited: bool,
}

impl Runner {
    pub(super) fn new(
        followed: Vec<TrackedRouter>,
        kernel: &NetlinkThreads,
        routers: &Arc<Routers>,
        store: &StatusStore,
        fitness: &Arc<ReadinessRequests>,
    ) -> Self {
        let configs = followed.iter().map(|TrackedRouter { config, .. }| config);
        let addresses: Addresses = Arc::new(configs.flat_map(Vrrp::hosts).collect());
        let member = |followed| VirtualRouter::new(followed, kernel.clone(), Arc::clone(routers), store.clone());
        Self {
            group: SyncGroup::new(
                followed
                    .iter()
                    .map(|TrackedRouter { config, .. }| (config.name.clone(), config.parameters())),
            ),
            members: followed.into_iter().map(member).collect(),
            timer: Timer::new(),
            ground: kernel.ground.clone(),
            fitness: Arc::clone(fitness),
            fit: ReadinessWait::begin(fitness, &addresses),
            addresses,
            doubted: None,
            waited: false,
        }
    }

    /// Runs until it is told to end; then hands over what this balancer is master of.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut news: watch::Receiver<u64>,
        mut ended: oneshot::Receiver<&'static str>,
    ) {
        let mut ground = self.ground.clone();
        ground.mark_changed();
        let cause = loop {
            let due = self.due();
            if due.is_some_and(|due| due <= lease::now()) {
                // Also while adverts come without end.
                self.tick().await;
                self.show();
                // Others on this thread are due, too.
                tokio::task::yield_now().await;
                continue;
            }
            let (members, timer) = (&self.members, &self.timer);
            let wake = tokio::select! {
                biased;
                // It also comes when the other side is dropped.
                cause = &mut ended => break cause.unwrap_or(ENDS),
                // These are rare; adverts may come without end.
                Some(order) = orders.recv() => Wake::Order(order),
                Ok(()) = news.changed() => Wake::News,
                Ok(()) = ground.changed() => Wake::InterfaceSnapshot,
                () = something_to_hear(members) => Wake::Heard,
                () = timer.until(due) => continue,
            };
            // Whoever slept has to know it before it sends anything.
            self.lapse().await;
            match wake {
                Wake::Order(order) => self.obey(order).await,
                Wake::News => self.weigh().await,
                Wake::InterfaceSnapshot => self.look().await,
                Wake::Heard => self.drain().await,
            }
            self.show();
        };
        self.end_unbegun(cause).await;
        let actions = self.group.end(cause);
        self.act(actions).await;
        self.linger().await;
        self.fit.close(&self.fitness);
        for member in &mut self.members {
            member.end().await;
        }
    }

    fn due(&self) -> Option<Micros> {
        let members = self.members.iter().filter_map(VirtualRouter::deadline);
        members.chain(self.group.deadline()).min()
    }

    /// Hands over what it still is master of from before its controller began, where that has not decided anything.
    async fn end_unbegun(&mut self, cause: &str) {
        for member in &mut self.members {
            if member.reporter.role() == Role::Out && member.holds_lease() {
                member.carry_out(Action::SendAdvert(0)).await;
                member.carry_out(Action::Become(Role::Out, cause.to_owned())).await;
            }
        }
    }

    /// Stays until whoever takes over is heard.
    async fn linger(&mut self) {
        while let Some(until_then) = self.members.iter().filter_map(VirtualRouter::lingers).max()
            && lease::now() < until_then
        {
            tokio::select! {
                () = something_to_hear(&self.members) => self.drain().await,
                () = self.timer.until(Some(until_then)) => {}
            }
            self.tick_members(lease::now()).await;
        }
    }

    /// Follows the interfaces.
    async fn look(&mut self) {
        let Some(ground) = self.ground.borrow().clone() else {
            return;
        };
        for index in 0..self.members.len() {
            if let Some(cause) = self.members[index].look(&ground).await {
                self.lose(index, &cause).await;
                self.members[index].close().await;
            }
        }
        self.weigh().await;
    }

    /// Heeds what the virtual routers depend on.
    async fn weigh(&mut self) {
        let outlooks: Vec<_> = self.members.iter().map(VirtualRouter::outlook).collect();
        if !outlooks.contains(&Outlook::Unknown) && self.members.iter().all(VirtualRouter::holds_lease) {
            // It serves already, whatever checks say.
            self.fit.close(&self.fitness);
        }
        if self.fit.has_begun(&self.fitness) {
            self.heed(outlooks).await;
        }
        let parameters = self.parameters();
        let actions = self.group.change(parameters, lease::now());
        self.act(actions).await;
    }

    /// Heeds what keeps each member out.
    async fn heed(&mut self, outlooks: Vec<Outlook>) {
        let is_hindered = outlooks.iter().any(|outlook| matches!(outlook, Outlook::Hindered(_)));
        if is_hindered {
            self.fit.lose(&self.fitness);
        }
        let waits = !is_hindered && self.fit.waits(&self.fitness, &self.addresses);
        let are_known = !outlooks.contains(&Outlook::Unknown);
        let mut ready = Vec::new();
        for (index, outlook) in outlooks.into_iter().enumerate() {
            match outlook {
                Outlook::Unknown => {}
                Outlook::Hindered(cause) => self.keep_out(index, &cause).await,
                Outlook::Clear if waits => self.keep_out(index, WAITS).await,
                // Until all are known the others may still be master together with those that are not.
                Outlook::Clear if are_known && !self.members[index].is_ready => {
                    self.members[index].is_ready = true;
                    ready.push(index);
                    let holds_lease = self.members[index].holds_lease();
                    let actions = self.group.ready(index, lease::now(), holds_lease);
                    self.act(actions).await;
                }
                Outlook::Clear => {}
            }
        }
        for index in ready {
            self.wait_for_others(index).await;
        }
    }

    /// Lets one of them take no part for that reason.
    async fn keep_out(&mut self, index: usize, cause: &str) {
        if !self.members[index].reporter.is_out_for(cause) {
            self.lose(index, cause).await;
        }
    }

    /// One of them cannot take part.
    async fn lose(&mut self, index: usize, cause: &str) {
        self.members[index].is_ready = false;
        let actions = self.group.lost(index, cause);
        self.act(actions).await;
        // Also where it took no part before: a killed controller may have left its addresses.
        self.members[index]
            .carry_out(Action::Become(Role::Out, cause.to_owned()))
            .await;
    }

    /// What the instances follow: in a group the least priority is that of all.
    fn parameters(&mut self) -> Vec<Parameters> {
        let least = self.members.iter_mut().map(VirtualRouter::effective_priority).min();
        let parameters = self.members.iter().map(|member| Parameters {
            priority: least.unwrap_or(member.config.priority),
            ..member.config.parameters()
        });
        parameters.collect()
    }

    /// Says why one that could take part does not, and takes off what a killed controller may have left.
    async fn wait_for_others(&mut self, index: usize) {
        if self.group.member(index).role() == Role::Out
            && let Some(other) = self.group.waits_for()
        {
            let cause = format!("{other} of its group cannot take part");
            self.members[index].carry_out(Action::Become(Role::Out, cause)).await;
        }
    }

    /// Reads what has come.
    async fn drain(&mut self) {
        for index in 0..self.members.len() {
            for _ in 0..MOST_AT_ONCE {
                let Some(heard) = self.members[index].hear() else { break };
                // One that is refused changes nothing.
                let Ok((from, own, advert, at)) = heard else { continue };
                self.waited = false;
                self.doubt(index, from, own, &advert, at).await;
                let actions = self.group.advert(index, from, own, &advert, at);
                self.act(actions).await;
            }
            for _ in 0..MOST_AT_ONCE {
                let Some(answer) = self.members[index].hear_answer() else {
                    break;
                };
                self.group.answered(index, answer, lease::now());
            }
        }
    }

    /// Leaves the addresses to another master, which a partition had brought up, where that one may serve and this balancer cannot:
    /// its checks have taken workers down that were out of its sight. It takes part again when they have told how those are now.
    async fn doubt(&mut self, index: usize, from: IpAddr, own: IpAddr, advert: &Advert, now: Micros) {
        let is_recent = |last: Micros| now < last + DOUBT_AGAIN;
        if self.doubted.is_some_and(is_recent)
            || self.group.member(index).is_owner()
            || !self.group.member(index).outdoes(from, own, advert)
            || !self.members[index].reporter.is_master_since(DOUBT_AFTER)
            || !self.fitness.refuses(&self.addresses)
        {
            return;
        }
        self.doubted = Some(now);
        self.fit.lose(&self.fitness);
        self.weigh().await;
    }

    /// Listens where its lease has lapsed.
    async fn lapse(&mut self) {
        if self.members.iter().any(VirtualRouter::has_lapsed) {
            let actions = self.group.lapse(lease::now());
            self.act(actions).await;
        }
    }

    /// Does what is due. Whoever slept reads first what came meanwhile: a master that was heard is there.
    async fn tick(&mut self) {
        let due = self.group.deadline();
        self.lapse().await;
        self.drain().await;
        let now = lease::now();
        let slept = due.is_some_and(|due| now > due + SLEPT) && self.group.deadline().is_some_and(|due| due <= now);
        if slept && !self.waited && !self.saw_silence() {
            // AdvertSocket may be lost that came while nobody read them.
            self.waited = true;
            self.group.wait(now);
        }
        let actions = self.group.tick(now);
        self.act(actions).await;
        self.tick_members(now).await;
    }

    /// Lets members do what is due. Addresses of all of them are given up before the first device is put down, which takes time.
    async fn tick_members(&mut self, now: Micros) {
        for member in &mut self.members {
            if member.lingers().is_some_and(|until| until <= now) {
                member.give_up().await;
            }
        }
        for member in &mut self.members {
            member.tick(now).await;
        }
    }

    /// Whether the packet path, which never sleeps, saw that no master is there any more.
    fn saw_silence(&self) -> bool {
        let mut members = self.members.iter().enumerate();
        members.all(|(index, member)| member.saw_silence(self.group.member(index).down_interval()))
    }

    async fn obey(&mut self, order: Order) {
        let now = lease::now();
        let actions = match order {
            Order::Release => self.group.release(now),
            Order::Take => self.group.take(now),
            Order::Maintain(names) => {
                let is_maintained = self.members.iter().any(|member| names.contains(&member.config.name));
                self.group.maintain(is_maintained, now)
            }
            Order::Change(followed) => {
                let configs = followed.iter().map(|TrackedRouter { config, .. }| config);
                self.addresses = Arc::new(configs.flat_map(Vrrp::hosts).collect());
                for (member, followed) in self.members.iter_mut().zip(followed) {
                    member.change(followed).await;
                }
                return self.weigh().await;
            }
        };
        self.act(actions).await;
    }

    async fn act(&mut self, actions: Vec<RouterAction>) {
        for (index, action) in actions {
            self.members[index].carry_out(action).await;
        }
    }

    fn show(&mut self) {
        let now = lease::now();
        let is_moved = |(index, member): (usize, &VirtualRouter)| member.reporter.is_moved(self.group.member(index));
        // The least priority of a group is that of all, whosever tracks made it so.
        let tracks = if self.members.iter().enumerate().any(is_moved) {
            self.members.iter().flat_map(VirtualRouter::tracks).collect()
        } else {
            Vec::new()
        };
        for (index, member) in self.members.iter_mut().enumerate() {
            member.show(self.group.member(index), &tracks, now);
        }
    }
}

/// Waits until one of them may have something to hear.
async fn something_to_hear(members: &[VirtualRouter]) {
    poll_fn(|context| {
        // Each has to be asked, so that it wakes this task.
        let ready = members.iter().map(|member| member.poll_ready(context));
        if ready.filter(Poll::is_ready).count() > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
