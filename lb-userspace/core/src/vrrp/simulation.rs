//! Several balancers on networks that lose, delay, double and part, with clocks that drift, processes that stall and
//! controllers that die alone: on a clock of its own.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    net::IpAddr,
};

use lb_common::VirtualRouter;
use proptest::{prelude::*, test_runner::TestRng};

use super::{
    advert::Advert,
    instance::{Action, EchoReply, Inactive, Micros, Parameters, Role},
    lease::is_lost,
    sync_group::{RouterAction, SyncGroup},
};

const INTERVAL: Micros = 10_000;
const GRACE: Micros = 10 * INTERVAL;
/// Longer than any balancer waits for a master: the longest stall, the grace, and what the protocol takes.
const PATIENCE: Micros = GRACE + 16 * INTERVAL;

struct Node {
    group: SyncGroup,
    address: IpAddr,
    priority: u8,
    /// Whether its controller runs.
    has_controller: bool,
    /// Whether its packet path does.
    has_path: bool,
    /// Until when its controller stalls; what comes waits.
    stalls_until: Micros,
    waiting: Vec<Message>,
    /// By how many millionths its clock is too fast.
    drift: i64,
    /// Of each network: which part of it the node is in, and whether its link is up.
    parts: Vec<u8>,
    links: Vec<bool>,
    /// What the packet path knows of each virtual router, in microseconds.
    routers: Vec<VirtualRouter>,
}

impl Node {
    fn local(&self, now: Micros) -> Micros {
        now.saturating_add_signed(now.cast_signed() * self.drift / 1_000_000)
    }

    /// When its clock shows that.
    fn global(&self, local: Micros) -> Micros {
        let global = i128::from(local) * 1_000_000 / i128::from(1_000_000 + self.drift);
        // Not before.
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
enum What {
    Advert(u8),
    Question,
    Reply { holds_lease: bool, lease_age: Micros },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    at: Micros,
    to: usize,
    from: usize,
    /// The network, and so the virtual router.
    network: usize,
    what: What,
}

struct World {
    nodes: Vec<Node>,
    under_way: BinaryHeap<Reverse<Message>>,
    now: Micros,
    rng: TestRng,
    /// Messages that are lost, of 100.
    loss: u32,
    is_calm: bool,
    /// Whether better ones take over from worse ones.
    preempt: bool,
    /// How often somebody became master.
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
            // A bad quartz is 100 millionths wrong; a bad hypervisor more.
            drift: i64::from(rng.next_u32() % 4001) - 2000,
            parts: vec![0; networks],
            links: vec![true; networks],
            routers: vec![VirtualRouter::ZERO; networks],
        };
        let mut world = Self {
            nodes: priorities.iter().enumerate().map(&mut node).collect(),
            under_way: BinaryHeap::new(),
            // No stamp is zero.
            now: INTERVAL,
            rng,
            loss,
            is_calm: false,
            preempt,
            promotions: 0,
        };
        for index in 0..world.nodes.len() {
            world.begin(index);
        }
        world
    }

    fn networks(&self) -> usize {
        self.nodes[0].group.len()
    }

    /// A controller starts.
    fn begin(&mut self, index: usize) {
        for network in 0..self.networks() {
            if self.nodes[index].links[network] {
                self.link_up(index, network);
            }
        }
    }

    fn link_up(&mut self, index: usize, network: usize) {
        let (now, node) = (self.now, &mut self.nodes[index]);
        let holds = node.routers[network].answers(now);
        let actions = node.group.ready(network, node.local(now), holds);
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
                        self.send(from, to, network, What::Advert(priority));
                    }
                }
                Action::SendEcho(master) => {
                    if let Some(to) = self.nodes.iter().position(|node| node.address == master) {
                        self.send(from, to, network, What::Question);
                    }
                }
                Action::Become(Role::Master, _) => self.promotions += 1,
                Action::Become(..) => self.nodes[from].routers[network].until = 0,
                Action::Announce => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, network: usize, what: What) {
        if to == from || (!self.is_calm && self.rng.next_u32() % 100 < self.loss) {
            return;
        }
        let doubles = !self.is_calm && self.rng.next_u32().is_multiple_of(20);
        for _ in 0..=usize::from(doubles) {
            // Now and then one comes after those that were sent later.
            let is_slow = !self.is_calm && self.rng.next_u32().is_multiple_of(20);
            let most = if is_slow { 3 * INTERVAL } else { INTERVAL / 4 };
            let at = self.now + 50 + u64::from(self.rng.next_u32()) % most;
            self.under_way.push(Reverse(Message {
                at,
                to,
                from,
                network,
                what,
            }));
        }
    }

    fn run_until(&mut self, end: Micros) {
        loop {
            let message = self.under_way.peek().map(|next| next.0.at);
            let timers = self.nodes.iter().filter(|node| node.has_controller).filter_map(|node| {
                let timer = node
                    .group
                    .deadline()
                    .map(|deadline| node.global(deadline).max(node.stalls_until));
                // Whoever wakes reads what waits.
                let wakes = (!node.waiting.is_empty()).then_some(node.stalls_until);
                timer.into_iter().chain(wakes).min()
            });
            let Some(next) = message.into_iter().chain(timers).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if message == Some(next) {
                if let Some(Reverse(message)) = self.under_way.pop() {
                    self.arrive(message);
                }
                continue;
            }
            for index in 0..self.nodes.len() {
                if self.nodes[index].runs(self.now) {
                    // As the runner does it: who lost its lease asleep listens, and what came is read before the clock is.
                    if self.has_lapsed(index) {
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

    fn has_lapsed(&self, index: usize) -> bool {
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
            what,
            ..
        } = message;
        let passes = self.nodes[to].parts[network] == self.nodes[from].parts[network]
            && self.nodes[to].links[network]
            && self.nodes[from].links[network];
        if !passes || !self.nodes[to].has_path {
            return;
        }
        match what {
            What::Advert(priority) if priority != 0 => self.nodes[to].routers[network].heard = self.now,
            What::Question => {
                let router = self.nodes[to].routers[network];
                let answer = What::Reply {
                    holds_lease: router.answers(self.now),
                    lease_age: self.now - router.renewed,
                };
                return self.send(to, from, network, answer);
            }
            What::Advert(_) | What::Reply { .. } => {}
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
        match message.what {
            What::Advert(priority) => {
                let advert = Advert {
                    version: 3,
                    router: 1,
                    priority,
                    interval: INTERVAL,
                    addresses: Vec::new(),
                    password: None,
                };
                // The packet path says when it came.
                let at = node.local(message.at).min(now);
                let actions = node.group.handle_advert(network, from, node.address, &advert, at);
                self.act(message.to, actions);
            }
            What::Reply { holds_lease, lease_age } => {
                let reply = EchoReply {
                    from,
                    holds_lease,
                    lease_age,
                };
                node.group.handle_echo_reply(network, reply, now);
            }
            What::Question => {}
        }
    }

    /// Who is master of a network's virtual router, by those whose controller runs.
    fn masters(&self, network: usize) -> Vec<usize> {
        let is_master = |index: &usize| {
            let node = &self.nodes[*index];
            node.has_controller && node.group.instance(network).role() == Role::Master
        };
        (0..self.nodes.len()).filter(is_master).collect()
    }

    /// Whether nobody but one is master, of all networks: where better ones take over, one of the highest priority.
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

    /// Something happens.
    fn disturb(&mut self, what: Fault) {
        let count = self.nodes.len();
        let networks = self.networks();
        match what {
            Fault::Crash(index) => {
                let node = &mut self.nodes[index % count];
                (node.has_controller, node.has_path) = (false, false);
                // Nothing of it is left.
                node.routers = vec![VirtualRouter::ZERO; networks];
                node.waiting.clear();
            }
            Fault::Orphan(index) => {
                self.nodes[index % count].has_controller = false;
                self.nodes[index % count].waiting.clear();
            }
            Fault::Restart(index) => {
                let index = index % count;
                let node = &mut self.nodes[index];
                if !node.has_controller {
                    (node.has_controller, node.has_path, node.stalls_until) = (true, true, 0);
                    node.group = group(node.priority, networks, self.preempt);
                    self.begin(index);
                }
            }
            Fault::Leave(index) => {
                let index = index % count;
                if self.nodes[index].runs(self.now) {
                    let actions = self.nodes[index].group.shutdown("the daemon stops");
                    self.act(index, actions);
                    self.nodes[index].has_controller = false;
                }
            }
            Fault::Stall(index, length) => {
                let node = &mut self.nodes[index % count];
                node.stalls_until = node.stalls_until.max(self.now + length);
            }
            Fault::Order(index, is_release) => {
                let (index, now) = (index % count, self.now);
                let node = &mut self.nodes[index];
                if node.runs(now) {
                    let local = node.local(now);
                    let actions = if is_release {
                        node.group.release(local)
                    } else {
                        node.group.take(local)
                    };
                    self.act(index, actions);
                }
            }
            Fault::Part(index, network, part) => self.nodes[index % count].parts[network % networks] = part,
            Fault::Link(index, network, up) => self.set_link(index % count, network % networks, up),
        }
    }

    fn set_link(&mut self, index: usize, network: usize, up: bool) {
        if std::mem::replace(&mut self.nodes[index].links[network], up) == up || !self.nodes[index].has_controller {
            return;
        }
        if up {
            self.link_up(index, network);
        } else {
            let actions = self.nodes[index]
                .group
                .deactivate(network, Inactive::Fault, "the link is down");
            self.act(index, actions);
        }
    }

    /// Everything that can heal does.
    fn heal(&mut self) {
        self.is_calm = true;
        for index in 0..self.nodes.len() {
            self.nodes[index].parts.fill(0);
            for network in 0..self.networks() {
                self.set_link(index, network, true);
            }
        }
    }
}

fn group(priority: u8, members: usize, preempt: bool) -> SyncGroup {
    let parameters = Parameters {
        version: 3,
        priority,
        interval: INTERVAL,
        preempt,
        preempt_delay: 0,
        grace: GRACE,
    };
    SyncGroup::new((0..members).map(|member| (format!("net{member}"), parameters.clone())))
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// All of a node dies.
    Crash(usize),
    /// Its controller dies, its packets go on.
    Orphan(usize),
    Restart(usize),
    Leave(usize),
    Stall(usize, Micros),
    /// An operator lets it hand over, or take.
    Order(usize, bool),
    Part(usize, usize, u8),
    Link(usize, usize, bool),
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let node = 0_usize..5;
    prop_oneof![
        node.clone().prop_map(Fault::Crash),
        node.clone().prop_map(Fault::Orphan),
        node.clone().prop_map(Fault::Restart),
        node.clone().prop_map(Fault::Leave),
        (node.clone(), 0..12 * INTERVAL).prop_map(|(node, length)| Fault::Stall(node, length)),
        (node.clone(), any::<bool>()).prop_map(|(node, is_release)| Fault::Order(node, is_release)),
        (node.clone(), 0_usize..3, 0_u8..3).prop_map(|(node, network, part)| Fault::Part(node, network, part)),
        (node, 0_usize..3, any::<bool>()).prop_map(|(node, network, up)| Fault::Link(node, network, up)),
    ]
}

fn priorities() -> impl Strategy<Value = Vec<u8>> {
    // Some are alike.
    let priority = prop_oneof![1_u8..255, prop::sample::select(vec![100_u8, 200])];
    prop::collection::vec(priority, 2..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_trouble_the_best_that_is_left_is_the_only_master_of_all(
        priorities in priorities(),
        networks in 1_usize..4,
        preempt: bool,
        faults in prop::collection::vec((any_fault(), 0_u64..6 * INTERVAL), 0..40),
        loss in 0_u32..40,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, preempt, loss, seed);
        for (fault, pause) in faults {
            world.disturb(fault);
            let end = world.now + pause;
            world.run_until(end);
        }
        world.heal();
        let end = world.now + PATIENCE;
        world.run_until(end);
        let masters: Vec<_> = (0..networks).map(|network| world.masters(network)).collect();
        prop_assert!(world.is_settled(), "masters: {masters:?}");
    }

    #[test]
    fn without_trouble_there_is_one_master_and_no_gap_is_longer_than_the_protocol_s(
        priorities in priorities(),
        networks in 1_usize..4,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, true, 0, seed);
        world.is_calm = true;
        let end = world.now + 8 * INTERVAL;
        world.run_until(end);
        prop_assert!(world.is_settled());
        let first = world.masters(0);
        let promotions = world.promotions;
        for _ in 0..100 {
            let end = world.now + INTERVAL / 3;
            world.run_until(end);
            prop_assert_eq!(&world.masters(0), &first);
        }
        prop_assert_eq!(world.promotions, promotions, "nobody else became master meanwhile");
        // It dies, and the next one takes over within the time of the protocol.
        world.disturb(Fault::Crash(first[0]));
        // Two equals may both have waited for it; then each has heard the other, too.
        let end = world.now + 5 * INTERVAL;
        world.run_until(end);
        prop_assert!(world.is_settled(), "masters: {:?}", world.masters(0));
    }

    #[test]
    fn a_stall_of_a_backup_changes_nothing(
        priorities in priorities(),
        networks in 1_usize..4,
        stalls in prop::collection::vec((0_usize..5, 0..60 * INTERVAL), 1..10),
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, true, 0, seed);
        world.is_calm = true;
        let end = world.now + 8 * INTERVAL;
        world.run_until(end);
        let (masters, promotions) = (world.masters(0), world.promotions);
        for (index, length) in stalls {
            if index % priorities.len() != masters[0] {
                world.disturb(Fault::Stall(index, length));
            }
            let end = world.now + length / 2;
            world.run_until(end);
        }
        let end = world.now + 70 * INTERVAL;
        world.run_until(end);
        prop_assert_eq!(world.promotions, promotions);
        prop_assert_eq!(world.masters(0), masters);
    }

    #[test]
    fn an_orphan_keeps_its_addresses_until_its_controller_returns_or_its_lease_ends(
        priorities in priorities(),
        networks in 1_usize..4,
        returns in 0_u64..20,
        is_parted: bool,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, true, 0, seed);
        world.is_calm = true;
        let end = world.now + 8 * INTERVAL;
        world.run_until(end);
        let (master, promotions) = (world.masters(0)[0], world.promotions);
        world.disturb(Fault::Orphan(master));
        // That it answers in one network of a group is enough.
        let parted = networks - 1;
        if is_parted && networks > 1 {
            world.disturb(Fault::Part(master, parted, 1));
        }
        let died = world.now;
        let back = died + returns * INTERVAL;
        let mut was_owned = died;
        let mut is_back = false;
        while world.now < died + PATIENCE {
            if world.now >= back && !is_back {
                is_back = true;
                world.disturb(Fault::Part(master, parted, 0));
                world.disturb(Fault::Restart(master));
            }
            for network in 0..networks {
                let owners = (0..priorities.len()).filter(|node| world.nodes[*node].routers[network].answers(world.now));
                prop_assert!(owners.count() <= 1 || world.now - was_owned < 5 * INTERVAL, "two owners for long");
            }
            if (0..priorities.len()).filter(|node| world.nodes[*node].routers[0].answers(world.now)).count() == 1 {
                was_owned = world.now;
            }
            prop_assert!(world.now - was_owned < 5 * INTERVAL, "nobody answers");
            let end = world.now + INTERVAL / 7;
            world.run_until(end);
        }
        if back + 2 * INTERVAL < died + GRACE {
            prop_assert_eq!(world.masters(0), vec![master], "it goes on as it was");
            prop_assert_eq!(world.promotions, promotions + networks, "only itself became master, again");
        }
        prop_assert!(world.is_settled());
    }
}
