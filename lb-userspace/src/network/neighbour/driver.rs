//! The task behind [`super::Neighbours`]: waits for netlink events, queries the kernel, publishes,
//! requests refreshes.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use tokio::{sync::watch, time::sleep_until};
use tracing::{debug, error, warn};

use super::{
    NextHops,
    messages::Recheck,
    netlink::{Netlink, Unanswered},
};
use lb_core::neighbour::{
    refresh::Refreshes,
    resolve::{NeighbourKey, Route, Snapshot, merge_state},
};

/// Events come in bursts: the kernel is queried this long after the first one.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// How often everything is queried, whatever the events say.
const PERIOD: Duration = Duration::from_secs(5);

/// Pause before a broken socket is replaced.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Queries in flight: few enough that the responses fit into the socket's buffer.
const IN_FLIGHT: usize = 32;

/// What to query next.
#[derive(Debug, Default)]
struct Pending {
    everything: bool,
    neighbours: BTreeSet<NeighbourKey>,
    /// When to query; `None`: nothing is pending.
    due: Option<Instant>,
}

pub struct Driver {
    netlink: Netlink,
    targets: watch::Receiver<BTreeSet<IpAddr>>,
    states: watch::Sender<NextHops>,
    snapshot: Snapshot,
    refreshes: Refreshes,
    pending: Pending,
    /// When everything is queried again.
    periodic: Instant,
    /// When the next neighbour is due for a refresh.
    next_refresh: Option<Instant>,
    /// Events cause no query before this time.
    rest: Instant,
}

/// Why the driver wakes up.
enum Wake {
    Targets,
    Recheck(Recheck),
    Broken,
    Time,
    Abandoned,
}

impl Driver {
    pub fn new(netlink: Netlink, targets: watch::Receiver<BTreeSet<IpAddr>>, states: watch::Sender<NextHops>) -> Self {
        let now = Instant::now();
        Self {
            netlink,
            targets,
            states,
            snapshot: Snapshot::default(),
            refreshes: Refreshes::default(),
            pending: Pending::default(),
            periodic: now,
            next_refresh: None,
            rest: now,
        }
    }

    /// Runs until the sender of targets is dropped.
    pub async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Targets => {
                    self.periodic = Instant::now();
                    self.work().await;
                }
                Wake::Recheck(recheck) => self.note(recheck),
                Wake::Broken => self.reopen().await,
                Wake::Time => self.work().await,
                Wake::Abandoned => return,
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let deadline = [Some(self.periodic), self.pending.due, self.next_refresh]
            .into_iter()
            .flatten()
            .min();
        let deadline = deadline.unwrap_or(self.periodic);
        tokio::select! {
            // The clock first: a storm of events must not block the work.
            biased;
            () = sleep_until(deadline.into()) => Wake::Time,
            changed = self.targets.changed() => if changed.is_ok() { Wake::Targets } else { Wake::Abandoned },
            recheck = self.netlink.event() => recheck.map_or(Wake::Broken, Wake::Recheck),
        }
    }

    fn note(&mut self, recheck: Recheck) {
        match recheck {
            Recheck::Everything => self.pending.everything = true,
            Recheck::Neighbour(key) if self.snapshot.wanted_neighbours().contains(&key) => {
                self.pending.neighbours.insert(key);
            }
            Recheck::Neighbour(_) => return,
        }
        self.pending
            .due
            .get_or_insert((Instant::now() + DEBOUNCE).max(self.rest));
    }

    /// Does everything that is due.
    async fn work(&mut self) {
        let start = Instant::now();
        let pending = if start >= self.periodic {
            self.periodic = start + PERIOD;
            self.pending = Pending::default();
            Some(Pending {
                everything: true,
                ..Pending::default()
            })
        } else if self.pending.due.is_some_and(|due| due <= start) {
            Some(std::mem::take(&mut self.pending))
        } else {
            None
        };
        if let Some(pending) = pending {
            let complete = if pending.everything {
                self.ask_all().await
            } else {
                self.ask_neighbours(pending.neighbours).await
            };
            self.publish();
            // With many targets and a storm of events, at most a fifth of the time is spent here.
            self.rest = Instant::now() + 4 * start.elapsed();
            if !complete {
                self.reopen().await;
            }
        }
        self.refresh().await;
    }

    /// Queries everything on the path to the targets. Returns whether all queries were answered.
    /// Without an answer the former state is kept.
    async fn ask_all(&mut self) -> bool {
        let targets = self.targets.borrow_and_update().clone();
        let netlink = &self.netlink;
        let routes = ask(&targets, |target| netlink.route(target)).await;
        let routes_complete = self.take_routes(&targets, routes);

        let links_complete = self.ask_links().await;

        let wanted = self.snapshot.wanted_neighbours();
        self.snapshot.neighbours.retain(|key, _| wanted.contains(key));
        let neighbours_complete = self.ask_neighbours(wanted).await;
        routes_complete && links_complete && neighbours_complete
    }

    /// Queries interfaces, and those that the answers refer to, until no new one appears.
    async fn ask_links(&mut self) -> bool {
        let mut asked = BTreeSet::new();
        let mut complete = true;
        loop {
            let wanted = self.snapshot.wanted_links();
            let next: BTreeSet<u32> = wanted.difference(&asked).copied().collect();
            if next.is_empty() {
                self.snapshot.links.retain(|ifindex, _| wanted.contains(ifindex));
                return complete;
            }
            let netlink = &self.netlink;
            let links = ask(&next, |ifindex| netlink.link(ifindex)).await;
            complete &= take(&mut self.snapshot.links, links, |_, new| new);
            asked.extend(next);
        }
    }

    fn take_routes(&mut self, targets: &BTreeSet<IpAddr>, answers: Vec<(IpAddr, Result<Route, Unanswered>)>) -> bool {
        self.snapshot.routes.retain(|target, _| targets.contains(target));
        let mut complete = true;
        for (target, answer) in answers {
            match answer {
                Ok(route) => {
                    self.snapshot.routes.insert(target, route);
                }
                Err(unanswered) => {
                    complete = false;
                    let unknown = || Route::None(format!("route unknown: {unanswered}"));
                    self.snapshot.routes.entry(target).or_insert_with(unknown);
                }
            }
        }
        complete
    }

    async fn ask_neighbours(&mut self, keys: BTreeSet<NeighbourKey>) -> bool {
        let netlink = &self.netlink;
        let answers = ask(&keys, |key| netlink.neighbour(key)).await;
        take(&mut self.snapshot.neighbours, answers, merge_state)
    }

    fn publish(&self) {
        let states = self.snapshot.resolve();
        self.states.send_if_modified(|current| {
            let changed = *current != states;
            *current = states;
            changed
        });
    }

    async fn refresh(&mut self) {
        let round = self.refreshes.round(&self.snapshot.to_refresh(), Instant::now());
        self.next_refresh = round.next;
        let keys = round.now.into_iter().collect();
        let netlink = &self.netlink;
        for ((ifindex, address), result) in ask(&keys, |key| netlink.refresh(key)).await {
            if let Err(error) = result {
                debug!(%address, ifindex, %error, "the kernel refused to refresh a neighbour");
            }
        }
    }

    /// Opens new sockets, and has everything queried soon.
    async fn reopen(&mut self) {
        warn!("a netlink socket lost messages or broke: opening another one");
        tokio::time::sleep(REOPEN_PAUSE).await;
        match Netlink::open() {
            Ok(netlink) => self.netlink = netlink,
            // The broken socket stays and leads here again.
            Err(error) => error!(%error, "cannot open a netlink socket: next hops are not updated"),
        }
        self.periodic = Instant::now();
    }
}

/// Sends one query per key, a limited number at a time.
async fn ask<K, A, F>(keys: &BTreeSet<K>, question: impl Fn(K) -> F) -> Vec<(K, Result<A, Unanswered>)>
where
    K: Copy,
    F: Future<Output = Result<A, Unanswered>>,
{
    let question = &question;
    let questions = keys
        .iter()
        .copied()
        .map(|key| async move { (key, question(key).await) });
    stream::iter(questions).buffer_unordered(IN_FLIGHT).collect().await
}

/// Stores answers. Returns whether all queries were answered. Without an answer the former state is
/// kept.
fn take<K: Ord, A>(
    known: &mut BTreeMap<K, A>,
    answers: Vec<(K, Result<Option<A>, Unanswered>)>,
    merge_state: impl Fn(Option<&A>, A) -> A,
) -> bool {
    let mut complete = true;
    for (key, answer) in answers {
        match answer {
            Ok(Some(new)) => {
                let new = merge_state(known.get(&key), new);
                known.insert(key, new);
            }
            Ok(None) => {
                known.remove(&key);
            }
            Err(_) => complete = false,
        }
    }
    complete
}
