//! The virtual routers as the controller sees them: started, asked, told, ended.

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
};
use crate::vrrp::tracker::{News, Tracker};
use crate::{dataplane::Routers, events::Events};
use lb_core::config::Vrrp;
use lb_core::vrrp::{Services, instance::Role};

/// Why instances cannot run.
#[derive(Debug, thiserror::Error)]
pub enum VrrpError {
    /// The thread cannot be started.
    #[error("VRRP cannot run: {0}")]
    Thread(#[from] io::Error),
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// That it hands over.
    Release,
    /// That it becomes master.
    Take,
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// There is no such virtual router.
    Unknown,
    /// It is maintained: it stays backup.
    Maintained,
    /// It takes no part, for that reason.
    Inactive(String),
    /// It is not master, so has nothing to hand over.
    NotMaster,
    /// The master, who has that priority, would take the addresses back at once.
    BetterMaster(IpAddr, u8),
}

/// The instances, running. They end when this is dropped, or in order by [`Instances::finish`].
pub struct Instances {
    store: StatusStore,
    commands: Mutex<Option<mpsc::UnboundedSender<Command>>>,
    /// What each virtual router depends on, by its name.
    trackers: Mutex<BTreeMap<String, Tracker>>,
    services: watch::Receiver<Services>,
    news: News,
    fitness: Arc<ReadinessRequests>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Instances {
    /// Starts their thread, in the network namespace of the calling one, without any: see [`Instances::apply`]. `services` is
    /// what they may depend on.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(routers: Routers, services: watch::Receiver<Services>, events: Events) -> Result<Self, VrrpError> {
        let store = StatusStore::new(events);
        let (commands, given) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = store.clone();
        let news: News = Arc::new(watch::Sender::new(0));
        let heard = news.subscribe();
        let fitness = Arc::new(ReadinessRequests::new(services.clone()));
        let asked = Arc::clone(&fitness);
        let thread = thread::Builder::new().name("vrrp".to_owned()).spawn(move || {
            runtime.block_on(driver::run(routers, shared, given, heard, asked));
        })?;
        Ok(Self {
            store,
            commands: Mutex::new(Some(commands)),
            trackers: Mutex::default(),
            services,
            news,
            fitness,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Lets these virtual routers run, and no others. Returns when those that are not wanted any more have handed over.
    pub async fn apply(&self, configs: Vec<Vrrp>) {
        let (done, is_done) = oneshot::channel();
        let followed = self.follow(configs);
        self.send(Command::Apply(followed, done));
        // It is dropped when the thread ends.
        let _ = is_done.await;
    }

    /// What groups of virtual routers ask before they take part.
    pub fn fitness(&self) -> &ReadinessRequests {
        &self.fitness
    }

    /// Answers that question: this balancer can serve what it takes over. Whoever asked takes no part before that.
    pub fn answer(&self, question: u64) {
        self.fitness.close(question);
        self.news.send_modify(|number| *number += 1);
    }

    /// Follows what virtual routers depend on; goes on where that is what it was.
    fn follow(&self, configs: Vec<Vrrp>) -> Vec<TrackedRouter> {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *trackers);
        let follow = |config: Vrrp| {
            let kept = before.remove(&config.name).filter(|kept| kept.tracks == config.tracks);
            let begin = || Tracker::begin(config.tracks.clone(), &self.services, &self.news);
            let follower = kept.unwrap_or_else(begin);
            let track_result = follower.evaluate();
            trackers.insert(config.name.clone(), follower);
            TrackedRouter { config, track_result }
        };
        configs.into_iter().map(follow).collect()
    }

    /// Says which virtual routers stay backup until this is called anew.
    pub fn maintain(&self, names: BTreeSet<String>) {
        self.send(Command::Maintain(Arc::new(names)));
    }

    /// What is known of each.
    pub fn status(&self) -> Vec<Status> {
        self.store.all()
    }

    /// Hands an order to a virtual router.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or it cannot obey.
    pub fn order(&self, name: &str, order: Order) -> Result<(), OrderError> {
        let status = self.store.one(name).ok_or(OrderError::Unknown)?;
        let order = match order {
            Order::Release if status.role != Role::Master => return Err(OrderError::NotMaster),
            Order::Release => runner::Order::Release,
            Order::Take if status.role == Role::Out => return Err(OrderError::Inactive(status.cause)),
            Order::Take if status.is_maintained => return Err(OrderError::Maintained),
            // Of equals, the one with the higher address stays.
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

    /// Hands over what this balancer is master of, ends, and has told what there was to tell.
    pub async fn finish(&self) {
        tokio::task::block_in_place(|| self.end());
        self.store.told().await;
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
