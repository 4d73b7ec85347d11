//! The task behind [`super::Neighbours`]: waits for events, asks the kernel, publishes, kicks.

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
    kernel::{Kernel, Unanswered},
    kicks::Kicks,
    resolve::{NeighbourKey, Snapshot, succeed},
    translate::Doubt,
};

/// Events come in bursts: this long after the first of them the kernel is asked.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// How often everything is asked, whatever the events say.
const PERIOD: Duration = Duration::from_secs(5);

/// How long after a broken socket another one is opened.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Questions under way at once: few enough that their answers fit the socket's buffer.
const IN_FLIGHT: usize = 32;

/// What to ask the kernel next.
#[derive(Debug, Default)]
struct Doubts {
    everything: bool,
    neighbours: BTreeSet<NeighbourKey>,
    /// When; `None` while there are none.
    due: Option<Instant>,
}

pub struct Driver {
    kernel: Kernel,
    targets: watch::Receiver<BTreeSet<IpAddr>>,
    states: watch::Sender<NextHops>,
    snapshot: Snapshot,
    kicks: Kicks,
    doubts: Doubts,
    /// When everything is asked again.
    periodic: Instant,
    /// When a neighbour is kicked again.
    next_kick: Option<Instant>,
    /// Not before this is the kernel asked because of an event.
    rest: Instant,
}

/// What woke the driver.
enum Wake {
    Targets,
    Doubt(Doubt),
    Broken,
    Time,
    Abandoned,
}

impl Driver {
    pub fn new(kernel: Kernel, targets: watch::Receiver<BTreeSet<IpAddr>>, states: watch::Sender<NextHops>) -> Self {
        let now = Instant::now();
        Self {
            kernel,
            targets,
            states,
            snapshot: Snapshot::default(),
            kicks: Kicks::default(),
            doubts: Doubts::default(),
            periodic: now,
            next_kick: None,
            rest: now,
        }
    }

    /// Runs until nobody can set targets any more.
    pub async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Targets => {
                    self.periodic = Instant::now();
                    self.work().await;
                }
                Wake::Doubt(doubt) => self.note(doubt),
                Wake::Broken => self.reopen().await,
                Wake::Time => self.work().await,
                Wake::Abandoned => return,
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let deadline = [Some(self.periodic), self.doubts.due, self.next_kick]
            .into_iter()
            .flatten()
            .min();
        let deadline = deadline.unwrap_or(self.periodic);
        tokio::select! {
            // The clock first: a storm of events must not keep the driver from its work.
            biased;
            () = sleep_until(deadline.into()) => Wake::Time,
            changed = self.targets.changed() => if changed.is_ok() { Wake::Targets } else { Wake::Abandoned },
            doubt = self.kernel.event() => doubt.map_or(Wake::Broken, Wake::Doubt),
        }
    }

    fn note(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::Everything => self.doubts.everything = true,
            Doubt::Neighbour(key) if self.snapshot.wanted_neighbours().contains(&key) => {
                self.doubts.neighbours.insert(key);
            }
            Doubt::Neighbour(_) => return,
        }
        self.doubts
            .due
            .get_or_insert((Instant::now() + DEBOUNCE).max(self.rest));
    }

    /// Does all that is due.
    async fn work(&mut self) {
        let start = Instant::now();
        let doubts = if start >= self.periodic {
            self.periodic = start + PERIOD;
            self.doubts = Doubts::default();
            Some(Doubts {
                everything: true,
                ..Doubts::default()
            })
        } else if self.doubts.due.is_some_and(|due| due <= start) {
            Some(std::mem::take(&mut self.doubts))
        } else {
            None
        };
        if let Some(doubts) = doubts {
            let complete = if doubts.everything {
                self.ask_all().await
            } else {
                self.ask_neighbours(doubts.neighbours).await
            };
            self.publish();
            // With many targets and a storm of events, most of the time belongs to others.
            self.rest = Instant::now() + 4 * start.elapsed();
            if !complete {
                self.reopen().await;
            }
        }
        self.kick().await;
    }

    /// Asks for everything on the way to the targets. Says whether all questions were answered; where one was not,
    /// the last answer stands.
    async fn ask_all(&mut self) -> bool {
        let targets = self.targets.borrow_and_update().clone();
        let kernel = &self.kernel;
        let routes = ask(&targets, |target| kernel.route(target)).await;
        let routes_complete = self.take_routes(&targets, routes);

        let links_complete = self.ask_links().await;

        let wanted = self.snapshot.wanted_neighbours();
        self.snapshot.neighbours.retain(|key, _| wanted.contains(key));
        let neighbours_complete = self.ask_neighbours(wanted).await;
        routes_complete && links_complete && neighbours_complete
    }

    /// Asks for interfaces, and then for those that the answers name, until they name no other.
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
            let kernel = &self.kernel;
            let links = ask(&next, |ifindex| kernel.link(ifindex)).await;
            complete &= take(&mut self.snapshot.links, links, |_, new| new);
            asked.extend(next);
        }
    }

    fn take_routes(
        &mut self,
        targets: &BTreeSet<IpAddr>,
        answers: Vec<(IpAddr, Result<super::resolve::Route, Unanswered>)>,
    ) -> bool {
        self.snapshot.routes.retain(|target, _| targets.contains(target));
        let mut complete = true;
        for (target, answer) in answers {
            match answer {
                Ok(route) => {
                    self.snapshot.routes.insert(target, route);
                }
                Err(unanswered) => {
                    complete = false;
                    let unknown = || super::resolve::Route::None(format!("route unknown: {unanswered}"));
                    self.snapshot.routes.entry(target).or_insert_with(unknown);
                }
            }
        }
        complete
    }

    async fn ask_neighbours(&mut self, keys: BTreeSet<NeighbourKey>) -> bool {
        let kernel = &self.kernel;
        let answers = ask(&keys, |key| kernel.neighbour(key)).await;
        take(&mut self.snapshot.neighbours, answers, succeed)
    }

    fn publish(&self) {
        let states = self.snapshot.resolve();
        self.states.send_if_modified(|current| {
            let changed = *current != states;
            *current = states;
            changed
        });
    }

    async fn kick(&mut self) {
        let round = self.kicks.round(&self.snapshot.to_kick(), Instant::now());
        self.next_kick = round.next;
        let keys = round.now.into_iter().collect();
        let kernel = &self.kernel;
        for ((ifindex, address), result) in ask(&keys, |key| kernel.kick(key)).await {
            if let Err(error) = result {
                debug!(%address, ifindex, %error, "the kernel did not take the request to resolve a neighbour");
            }
        }
    }

    /// Opens new sockets, and asks everything soon.
    async fn reopen(&mut self) {
        warn!("a netlink socket lost messages or broke: opening another one");
        tokio::time::sleep(REOPEN_PAUSE).await;
        match Kernel::open() {
            Ok(kernel) => self.kernel = kernel,
            // The broken socket stays, and leads here again.
            Err(error) => error!(%error, "cannot open a netlink socket; next hops are not followed"),
        }
        self.periodic = Instant::now();
    }
}

/// Asks one question per key, some at a time.
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

/// Enters answers. Says whether all questions were answered; where one was not, the last answer stands.
fn take<K: Ord, A>(
    known: &mut BTreeMap<K, A>,
    answers: Vec<(K, Result<Option<A>, Unanswered>)>,
    succeed: impl Fn(Option<&A>, A) -> A,
) -> bool {
    let mut complete = true;
    for (key, answer) in answers {
        match answer {
            Ok(Some(new)) => {
                let new = succeed(known.get(&key), new);
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
