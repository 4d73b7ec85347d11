//! Simulation of several balancers on a virtual clock. Networks lose, delay, duplicate and
//! partition; clocks drift; processes stall; controllers die alone.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    net::IpAddr,
};

use lb_common::VirtualRouter;
use proptest::{prelude::Rng, test_runner::TestRng};

use super::{
    advert::Advert,
    instance::{Action, EchoReply, Inactive, Micros, Parameters, Role},
    lease::is_lost,
    sync_group::{RouterAction, SyncGroup},
};

mod faults;
mod properties;

const INTERVAL: Micros = 10_000;
const GRACE: Micros = 10 * INTERVAL;
/// How long the system may take to settle: the longest stall, the grace, and the times of the
/// protocol.
const SETTLE_TIME: Micros = GRACE + 16 * INTERVAL;

struct Node {
    group: SyncGroup,
    address: IpAddr,
    priority: u8,
    /// Whether its controller runs.
    has_controller: bool,
    /// Whether its packet path runs.
    has_path: bool,
    /// Until when its controller stalls. Received messages wait.
    stalls_until: Micros,
    waiting: Vec<Message>,
    /// How much its clock is too fast, in parts per million.
    drift: i64,
    /// For each network: its partition, and whether its link is up.
    parts: Vec<u8>,
    links: Vec<bool>,
    /// Entry of each virtual router in the packet path, in microseconds.
    routers: Vec<VirtualRouter>,
}

impl Node {
    fn local(&self, now: Micros) -> Micros {
        now.saturating_add_signed(now.cast_signed() * self.drift / 1_000_000)
    }

    /// The global time at which its clock shows `local`.
    fn global(&self, local: Micros) -> Micros {
        let global = i128::from(local) * 1_000_000 / i128::from(1_000_000 + self.drift);
        // Rounded up.
        global as Micros + 1
    }

    fn runs(&self, now: Micros) -> bool {
        self.has_controller && self.stalls_until <= now
    }

    fn is_able(&self) -> bool {
        self.has_controller && self.links.iter().all(|up| *up)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Advert(u8),
    Echo,
    Reply { holds_lease: bool, lease_age: Micros },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    at: Micros,
    to: usize,
    from: usize,
    /// The network, and so the virtual router.
    network: usize,
    content: Content,
}

struct World {
    nodes: Vec<Node>,
    in_flight: BinaryHeap<Reverse<Message>>,
    now: Micros,
    rng: TestRng,
    /// Lost messages in percent.
    loss: u32,
    /// Whether the network is perfect.
    is_calm: bool,
    /// Whether balancers preempt.
    preempt: bool,
    /// How often a node became master of a network.
    promotions: usize,
}

impl World {
    fn new(priorities: &[u8], networks: usize, preempt: bool, loss: u32, seed: [u8; 32]) -> Self {
        let mut rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let mut node = |(index, priority): (usize, &u8)| Node {
            group: group(*priority, networks, preempt),
            address: [192, 0, 2, index as u8 + 1].into(),
            priority: *priority,
            has_controller: true,
            has_path: true,
            stalls_until: 0,
            waiting: Vec::new(),
            // A bad quartz is wrong by 100 parts per million, a bad hypervisor by more.
            drift: i64::from(rng.next_u32() % 4001) - 2000,
            parts: vec![0; networks],
            links: vec![true; networks],
            routers: vec![VirtualRouter::ZERO; networks],
        };
        let mut world = Self {
            nodes: priorities.iter().enumerate().map(&mut node).collect(),
            in_flight: BinaryHeap::new(),
            // 0 means "never" in the entries of the packet path.
            now: INTERVAL,
            rng,
            loss,
            is_calm: false,
            preempt,
            promotions: 0,
        };
        for index in 0..world.nodes.len() {
            world.start(index);
        }
        world
    }

    fn networks(&self) -> usize {
        self.nodes[0].group.len()
    }

    /// A controller starts.
    fn start(&mut self, index: usize) {
        for network in 0..self.networks() {
            if self.nodes[index].links[network] {
                self.link_up(index, network);
            }
        }
    }

    fn link_up(&mut self, index: usize, network: usize) {
        let (now, node) = (self.now, &mut self.nodes[index]);
        let holds_lease = node.routers[network].answers(now);
        let actions = node.group.ready(network, node.local(now), holds_lease);
        self.act(index, actions);
    }

    fn act(&mut self, from: usize, actions: Vec<RouterAction>) {
        for (network, action) in actions {
            let now = self.now;
            match action {
                Action::SendAdvert(priority) => {
                    if priority != 0 {
                        let router = &mut self.nodes[from].routers[network];
                        (router.renewed, router.until, router.patience) = (now, now + GRACE, 3 * INTERVAL);
                    }
                    for to in 0..self.nodes.len() {
                        self.send(from, to, network, Content::Advert(priority));
                    }
                }
                Action::SendEcho(master) => {
                    if let Some(to) = self.nodes.iter().position(|node| node.address == master) {
                        self.send(from, to, network, Content::Echo);
                    }
                }
                Action::Become(Role::Master, _) => self.promotions += 1,
                Action::Become(..) => self.nodes[from].routers[network].until = 0,
                Action::Announce => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, network: usize, content: Content) {
        if to == from || (!self.is_calm && self.rng.next_u32() % 100 < self.loss) {
            return;
        }
        let is_duplicated = !self.is_calm && self.rng.next_u32().is_multiple_of(20);
        for _ in 0..=usize::from(is_duplicated) {
            // Some messages overtake others.
            let is_slow = !self.is_calm && self.rng.next_u32().is_multiple_of(20);
            let most = if is_slow { 3 * INTERVAL } else { INTERVAL / 4 };
            let at = self.now + 50 + u64::from(self.rng.next_u32()) % most;
            self.in_flight.push(Reverse(Message {
                at,
                to,
                from,
                network,
                content,
            }));
        }
    }

    fn run_until(&mut self, end: Micros) {
        loop {
            let message = self.in_flight.peek().map(|next| next.0.at);
            let timers = self.nodes.iter().filter(|node| node.has_controller).filter_map(|node| {
                let timer = node
                    .group
                    .deadline()
                    .map(|deadline| node.global(deadline).max(node.stalls_until));
                // A node that wakes reads waiting messages.
                let wakes = (!node.waiting.is_empty()).then_some(node.stalls_until);
                timer.into_iter().chain(wakes).min()
            });
            let Some(next) = message.into_iter().chain(timers).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if message == Some(next) {
                if let Some(Reverse(message)) = self.in_flight.pop() {
                    self.arrive(message);
                }
                continue;
            }
            for index in 0..self.nodes.len() {
                if self.nodes[index].runs(self.now) {
                    // As in the runner: a lost lease is noticed first, and waiting messages are
                    // read before timers run.
                    if self.has_lost_lease(index) {
                        let now = self.nodes[index].local(self.now);
                        let actions = self.nodes[index].group.lease_lost(now);
                        self.act(index, actions);
                    }
                    for message in std::mem::take(&mut self.nodes[index].waiting) {
                        self.hear(message);
                    }
                    let now = self.nodes[index].local(self.now);
                    let actions = self.nodes[index].group.tick(now);
                    self.act(index, actions);
                }
            }
        }
        self.now = end;
    }

    fn has_lost_lease(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let mut routers = node.routers.iter().enumerate();
        routers
            .any(|(network, router)| node.group.instance(network).role() == Role::Master && is_lost(router, self.now))
    }

    /// A message reaches the packet path, and then the controller.
    fn arrive(&mut self, message: Message) {
        let Message {
            to,
            from,
            network,
            content,
            ..
        } = message;
        let passes = self.nodes[to].parts[network] == self.nodes[from].parts[network]
            && self.nodes[to].links[network]
            && self.nodes[from].links[network];
        if !passes || !self.nodes[to].has_path {
            return;
        }
        match content {
            Content::Advert(priority) if priority != 0 => self.nodes[to].routers[network].heard = self.now,
            Content::Echo => {
                let router = self.nodes[to].routers[network];
                let reply = Content::Reply {
                    holds_lease: router.answers(self.now),
                    lease_age: self.now - router.renewed,
                };
                return self.send(to, from, network, reply);
            }
            Content::Advert(_) | Content::Reply { .. } => {}
        }
        if self.nodes[to].runs(self.now) {
            self.hear(message);
        } else if self.nodes[to].has_controller {
            self.nodes[to].waiting.push(message);
        }
    }

    fn hear(&mut self, message: Message) {
        let (from, network) = (self.nodes[message.from].address, message.network);
        let node = &mut self.nodes[message.to];
        let now = node.local(self.now);
        match message.content {
            Content::Advert(priority) => {
                let advert = Advert {
                    version: 3,
                    router: 1,
                    priority,
                    interval: INTERVAL,
                    addresses: Vec::new(),
                    password: None,
                };
                // The packet path notes when it came.
                let at = node.local(message.at).min(now);
                let actions = node.group.handle_advert(network, from, node.address, &advert, at);
                self.act(message.to, actions);
            }
            Content::Reply { holds_lease, lease_age } => {
                let reply = EchoReply {
                    from,
                    holds_lease,
                    lease_age,
                };
                node.group.handle_echo_reply(network, reply, now);
            }
            Content::Echo => {}
        }
    }

    /// The masters of the virtual router of a network, among nodes whose controller runs.
    fn masters(&self, network: usize) -> Vec<usize> {
        let is_master = |index: &usize| {
            let node = &self.nodes[*index];
            node.has_controller && node.group.instance(network).role() == Role::Master
        };
        (0..self.nodes.len()).filter(is_master).collect()
    }

    /// Whether one node is the only master of all networks. With preemption, it has the highest
    /// priority.
    fn is_settled(&self) -> bool {
        let able = self.nodes.iter().filter(|node| node.is_able());
        let highest = able.map(|node| node.priority).max();
        let masters: BTreeSet<_> = (0..self.networks()).map(|network| self.masters(network)).collect();
        let masters: Vec<_> = masters.into_iter().collect();
        match (masters.as_slice(), highest) {
            ([none], None) => none.is_empty(),
            ([same], Some(highest)) => {
                let is_best = |master: usize| !self.preempt || self.nodes[master].priority == highest;
                matches!(same[..], [master] if is_best(master))
            }
            _ => false,
        }
    }
}

fn group(priority: u8, networks: usize, preempt: bool) -> SyncGroup {
    let parameters = Parameters {
        version: 3,
        priority,
        interval: INTERVAL,
        preempt,
        preempt_delay: 0,
        grace: GRACE,
    };
    SyncGroup::new((0..networks).map(|network| (format!("net{network}"), parameters.clone())))
}
