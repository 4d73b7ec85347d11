//! Runs the instances on a thread of their own: sockets, clock and kernel for what [`Instance`] decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    libc,
    sys::mman::{MlockAllFlags, mlockall},
};
use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant as Moment, sleep_until},
};

use super::{
    addresses::{self, Link},
    announce::Announcer,
    instance::{Action, Instance, Micros, Role},
    socket::{Adverts, Received},
    wire::{Advert, Covered, GROUP_V4, GROUP_V6, HOPS, Refused},
};
use crate::{
    config::Vrrp,
    events::{Events, Happening, Kind},
};

/// How often an interface is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// When addresses are announced again after they were taken over, from the first time on.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(1000),
];
/// How long ending may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Priority among threads that run before all ordinary ones.
const REAL_TIME: libc::c_int = 20;

/// Why instances cannot run.
#[derive(Debug, thiserror::Error)]
pub enum VrrpError {
    /// The thread cannot be started.
    #[error("VRRP cannot run: {0}")]
    Thread(#[from] io::Error),
}

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
    /// The master that is heard, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// Adverts sent.
    pub sent: u64,
    /// Adverts that came and were right.
    pub received: u64,
    /// What came and was not, by reason.
    pub refused: BTreeMap<Refused, u64>,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// That it hands over.
    Release,
    /// That it becomes master.
    Take,
}

type Statuses = Arc<Mutex<BTreeMap<String, Status>>>;

/// The instances, running. They end when this is dropped, or in order by [`Instances::end`].
pub struct Instances {
    statuses: Statuses,
    orders: mpsc::UnboundedSender<(String, Order)>,
    running: Mutex<Option<Running>>,
}

struct Running {
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Instances {
    /// Starts them, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// When their thread cannot be started.
    pub fn start(configs: Vec<Vrrp>, events: Events) -> Result<Self, VrrpError> {
        let statuses = Statuses::default();
        let (orders, given) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&statuses);
        let thread = thread::Builder::new().name("vrrp".to_owned()).spawn(move || {
            hurry(&configs);
            runtime.block_on(run(configs, shared, events, given, ended));
        })?;
        Ok(Self {
            statuses,
            orders,
            running: Mutex::new(Some(Running { end, thread })),
        })
    }

    /// What is known of each.
    pub fn status(&self) -> Vec<Status> {
        lock(&self.statuses).values().cloned().collect()
    }

    /// Hands an order to an instance; says whether there is one of that name.
    pub fn order(&self, name: &str, order: Order) -> bool {
        let is_known = lock(&self.statuses).contains_key(name);
        is_known && self.orders.send((name.to_owned(), order)).is_ok()
    }

    /// Hands over what this balancer is master of, and ends. It blocks until that is done.
    pub fn end(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { end, thread }) = running {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(statuses: &Statuses) -> std::sync::MutexGuard<'_, BTreeMap<String, Status>> {
    // Nothing panics while it holds the lock.
    statuses.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the thread run before others, and keeps its memory, so that adverts go out and are heard in time.
fn hurry(configs: &[Vrrp]) {
    if configs.is_empty() {
        return;
    }
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
        tracing::debug!(%error, "memory is not locked");
    }
}

async fn run(
    configs: Vec<Vrrp>,
    statuses: Statuses,
    events: Events,
    mut orders: mpsc::UnboundedReceiver<(String, Order)>,
    mut ended: oneshot::Receiver<()>,
) {
    let (connection, handle, _) = match rtnetlink::new_connection() {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, "VRRP cannot ask the kernel");
            return;
        }
    };
    tokio::spawn(connection);
    let mut tasks = JoinSet::new();
    let mut ends = Vec::new();
    let mut desks = BTreeMap::new();
    for config in configs {
        let (desk, given) = mpsc::unbounded_channel();
        let (end, told) = oneshot::channel();
        desks.insert(config.name.clone(), desk);
        ends.push(end);
        let runner = Runner::new(config, Arc::clone(&statuses), events.clone(), handle.clone());
        tasks.spawn(runner.run(given, told));
    }
    loop {
        tokio::select! {
            // It also comes when the other side is dropped.
            _ = &mut ended => break,
            Some((name, order)) = orders.recv() => {
                if let Some(desk) = desks.get(&name) {
                    let _ = desk.send(order);
                }
            }
        }
    }
    for end in ends {
        let _ = end.send(());
    }
    let _ = tokio::time::timeout(PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
}

/// One instance with what it works with.
struct Runner {
    config: Vrrp,
    virtual_addresses: BTreeSet<IpAddr>,
    instance: Instance,
    statuses: Statuses,
    events: Events,
    handle: Handle,
    begin: Moment,
    ports: Option<Ports>,
    /// When the addresses are announced again.
    announcements: Vec<Moment>,
    /// Whether a checksum of the other kind was told of.
    told_of_checksum: bool,
}

/// What adverts go through while the interface is there.
struct Ports {
    link: Link,
    source: IpAddr,
    adverts: Adverts,
    announcer: Announcer,
}

impl Runner {
    fn new(config: Vrrp, statuses: Statuses, events: Events, handle: Handle) -> Self {
        let status = Status {
            name: config.name.clone(),
            role: Role::Out,
            since: SystemTime::now(),
            cause: "it begins".to_owned(),
            master: None,
            sent: 0,
            received: 0,
            refused: BTreeMap::new(),
        };
        lock(&statuses).insert(config.name.clone(), status);
        Self {
            virtual_addresses: config.addresses.iter().map(|address| address.addr()).collect(),
            instance: Instance::new(config.rules()),
            config,
            statuses,
            events,
            handle,
            begin: Moment::now(),
            ports: None,
            announcements: Vec::new(),
            told_of_checksum: false,
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut ended: oneshot::Receiver<()>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let timer = self
                .instance
                .deadline()
                .map(|deadline| self.begin + Duration::from_micros(deadline));
            let announcement = self.announcements.first().copied();
            let ports = self.ports.as_ref();
            tokio::select! {
                biased;
                _ = &mut ended => break,
                heard = async {
                    match ports {
                        Some(ports) => ports.adverts.readable().await,
                        None => std::future::pending().await,
                    }
                } => match heard {
                    Ok(()) => self.drain().await,
                    Err(error) => tracing::warn!(%error, instance = self.config.name, "adverts cannot be heard"),
                },
                () = until(timer) => {
                    // Whoever slept reads first what came meanwhile: a master that was heard is there.
                    self.drain().await;
                    let actions = self.instance.tick(self.now());
                    self.act(actions).await;
                }
                () = until(announcement) => {
                    self.announcements.remove(0);
                    self.announce();
                }
                Some(order) = orders.recv() => {
                    let now = self.now();
                    let actions = match order {
                        Order::Release => self.instance.release(now),
                        Order::Take => self.instance.take(now),
                    };
                    self.act(actions).await;
                }
                _ = look.tick() => self.look().await,
            }
        }
        let actions = self.instance.stop("the daemon ends");
        self.act(actions).await;
    }

    fn now(&self) -> Micros {
        self.begin.elapsed().as_micros() as Micros
    }

    /// Follows the interface.
    async fn look(&mut self) {
        let link = addresses::link(&self.handle, &self.config.interface).await;
        let running = link.filter(|link| link.is_running);
        if self.ports.as_ref().map(|ports| &ports.link) == running.as_ref() {
            return;
        }
        if self.ports.is_some() {
            let actions = self.instance.stop("the interface is down");
            self.act(actions).await;
            self.ports = None;
        }
        let Some(link) = running else {
            self.note(Role::Out, "the interface is down");
            return;
        };
        match self.open(link).await {
            Ok(ports) => {
                let there = addresses::all(&self.handle, ports.link.index).await;
                let has_addresses = self.virtual_addresses.iter().all(|address| there.contains(address));
                self.ports = Some(ports);
                let now = self.now();
                let actions = self.instance.start(now, has_addresses);
                self.act(actions).await;
            }
            Err(error) => self.note(Role::Out, &error.to_string()),
        }
    }

    async fn open(&self, link: Link) -> io::Result<Ports> {
        let is_v4 = self.virtual_addresses.first().is_none_or(IpAddr::is_ipv4);
        let source = match self.config.source {
            Some(source) => source,
            None => addresses::all(&self.handle, link.index)
                .await
                .into_iter()
                .filter(|address| address.is_ipv4() == is_v4 && !self.virtual_addresses.contains(address))
                // RFC 9568, section 5.1.2.1: "The IPv6 link-local address of the interface".
                .find(|address| !matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local()))
                .ok_or_else(|| io::Error::other("the interface has no address to send adverts from"))?,
        };
        let multicast = self.config.peers.is_empty();
        Ok(Ports {
            adverts: Adverts::open(&self.config.interface, link.index, source, multicast)?,
            announcer: Announcer::open(link.index, link.mac)?,
            link,
            source,
        })
    }

    /// Reads all adverts that are there.
    async fn drain(&mut self) {
        while let Some(received) = self.ports.as_ref().map(|ports| ports.adverts.receive()) {
            match received {
                Ok(received) => self.hear(&received).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.refuse(Refused::Short),
                Err(error) => {
                    tracing::debug!(%error, instance = self.config.name, "an advert could not be read");
                    return;
                }
            }
        }
    }

    async fn hear(&mut self, received: &Received) {
        let Some(own) = self.ports.as_ref().map(|ports| ports.source) else {
            return;
        };
        if received.source == own {
            return;
        }
        match self.judge(received, own) {
            Ok((advert, covered)) => {
                self.tell_of_checksum(covered, received.source);
                self.update(|status| status.received += 1);
                let now = self.now();
                let actions = self.instance.advert(received.source, own, &advert, now);
                let master = self.instance.master();
                self.update(|status| status.master = master);
                self.act(actions).await;
            }
            Err(reason) => self.refuse(reason),
        }
    }

    fn judge(&self, received: &Received, own: IpAddr) -> Result<(Advert, Covered), Refused> {
        if received.hops != HOPS {
            return Err(Refused::Hops);
        }
        let destination = received.destination.unwrap_or(own);
        let (advert, covered) = Advert::parse(&received.message, received.source, destination)?;
        if advert.router != self.config.router {
            return Err(Refused::Router);
        }
        if advert.version != self.config.version {
            return Err(Refused::Version);
        }
        if !self.config.peers.is_empty() && !self.config.peers.contains(&received.source) {
            return Err(Refused::Stranger);
        }
        if advert.version == 2 {
            if advert.password != self.config.password {
                return Err(Refused::Password);
            }
            if advert.interval != self.config.rules().interval {
                return Err(Refused::Interval);
            }
        }
        Ok((advert, covered))
    }

    fn refuse(&self, reason: Refused) {
        self.update(|status| *status.refused.entry(reason).or_default() += 1);
    }

    /// Says once which form of the checksum somebody uses that we do not.
    fn tell_of_checksum(&mut self, covered: Covered, from: IpAddr) {
        let differs = self.config.version == 3 && from.is_ipv4() && covered != self.config.checksum;
        if differs && !self.told_of_checksum {
            self.told_of_checksum = true;
            tracing::warn!(
                instance = self.config.name,
                %from,
                "adverts come with the other form of the checksum of version 3 (`checksum`): both are accepted here, perhaps not there"
            );
        }
    }

    async fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(priority) => self.send(priority),
                Action::Become(role, cause) => self.become_role(role, &cause).await,
                Action::Announce => {
                    self.announce();
                    let now = Moment::now();
                    self.announcements = AGAIN.map(|pause| now + pause).to_vec();
                }
            }
        }
    }

    fn send(&self, priority: u8) {
        let Some(ports) = &self.ports else { return };
        let group = if ports.source.is_ipv4() {
            IpAddr::V4(GROUP_V4)
        } else {
            IpAddr::V6(GROUP_V6)
        };
        let to = if self.config.peers.is_empty() {
            std::slice::from_ref(&group)
        } else {
            &self.config.peers
        };
        let advert = Advert {
            version: self.config.version,
            router: self.config.router,
            priority,
            interval: self.config.rules().interval,
            addresses: self.config.addresses.iter().map(|address| address.addr()).collect(),
            password: self.config.password,
        };
        for destination in to {
            let message = advert.bytes(ports.source, *destination, self.config.checksum);
            if let Err(error) = ports.adverts.send(&message, *destination) {
                tracing::debug!(%error, %destination, instance = self.config.name, "an advert could not be sent");
            }
        }
        self.update(|status| status.sent += 1);
    }

    async fn become_role(&mut self, role: Role, cause: &str) {
        let Some(index) = self.ports.as_ref().map(|ports| ports.link.index) else {
            return;
        };
        if role == Role::Master {
            for address in &self.config.addresses {
                if let Err(error) = addresses::add(&self.handle, index, *address).await {
                    tracing::error!(%error, %address, instance = self.config.name, "an address could not be taken");
                }
            }
        } else {
            self.announcements.clear();
            if let Err(error) = addresses::remove(&self.handle, index, &self.virtual_addresses).await {
                tracing::error!(%error, instance = self.config.name, "addresses could not be given up");
            }
        }
        self.note(role, cause);
    }

    fn announce(&self) {
        if let (Some(ports), Role::Master) = (&self.ports, self.instance.role()) {
            ports.announcer.announce(self.virtual_addresses.iter().copied());
        }
    }

    /// Writes down what it is now.
    fn note(&self, role: Role, cause: &str) {
        let mut is_new = false;
        self.update(|status| {
            is_new = status.role != role || status.cause != cause;
            if status.role != role {
                status.since = SystemTime::now();
                status.master = None;
            }
            status.role = role;
            status.cause = cause.to_owned();
        });
        if is_new {
            let kind = match role {
                Role::Master => Kind::VrrpMaster,
                Role::Backup => Kind::VrrpBackup,
                Role::Out => Kind::VrrpFault,
            };
            let text = format!("{}: {cause}", self.config.name);
            self.events
                .record(Happening::new(kind, text).of_interface(&self.config.interface));
        }
    }

    fn update(&self, change: impl FnOnce(&mut Status)) {
        if let Some(status) = lock(&self.statuses).get_mut(&self.config.name) {
            change(status);
        }
    }
}

async fn until(moment: Option<Moment>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
