//! Several balancers on a network that loses, delays and doubles adverts, on a clock of its own.

use std::{collections::BinaryHeap, net::IpAddr};

use proptest::{prelude::*, test_runner::TestRng};

use super::{
    instance::{Action, Instance, Micros, Role, Rules},
    wire::Advert,
};

const INTERVAL: Micros = 10_000;
/// Longer than any balancer waits for a master.
const PATIENCE: Micros = 8 * INTERVAL;

struct Node {
    instance: Instance,
    address: IpAddr,
    priority: u8,
    is_alive: bool,
    /// Which part of the network it is in.
    part: u8,
}

struct World {
    nodes: Vec<Node>,
    /// Adverts under way: when they arrive, to whom, from whom, priority.
    under_way: BinaryHeap<std::cmp::Reverse<(Micros, usize, usize, u8)>>,
    now: Micros,
    rng: TestRng,
    /// Adverts that are lost, of 100.
    loss: u32,
    is_calm: bool,
}

impl World {
    fn new(priorities: &[u8], loss: u32, seed: [u8; 32]) -> Self {
        let node = |(index, priority): (usize, &u8)| Node {
            instance: Instance::new(Rules {
                version: 3,
                priority: *priority,
                interval: INTERVAL,
                preempt: true,
                preempt_delay: 0,
            }),
            address: [192, 0, 2, index as u8 + 1].into(),
            priority: *priority,
            is_alive: true,
            part: 0,
        };
        let mut world = Self {
            nodes: priorities.iter().enumerate().map(node).collect(),
            under_way: BinaryHeap::new(),
            now: 0,
            rng: TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed),
            loss,
            is_calm: false,
        };
        for index in 0..world.nodes.len() {
            let actions = world.nodes[index].instance.start(0, false);
            world.act(index, actions);
        }
        world
    }

    fn act(&mut self, from: usize, actions: Vec<Action>) {
        for action in actions {
            let Action::Send(priority) = action else { continue };
            for to in 0..self.nodes.len() {
                if to == from || (!self.is_calm && self.rng.next_u32() % 100 < self.loss) {
                    continue;
                }
                let copies = if !self.is_calm && self.rng.next_u32().is_multiple_of(20) {
                    2
                } else {
                    1
                };
                for _ in 0..copies {
                    let delay = 50 + u64::from(self.rng.next_u32()) % (INTERVAL / 4);
                    self.under_way
                        .push(std::cmp::Reverse((self.now + delay, to, from, priority)));
                }
            }
        }
    }

    fn run_until(&mut self, end: Micros) {
        loop {
            let advert = self.under_way.peek().map(|next| next.0.0);
            let timer = self
                .alive()
                .filter_map(|index| self.nodes[index].instance.deadline())
                .min();
            let Some(next) = advert.into_iter().chain(timer).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if advert == Some(next) {
                let Some(std::cmp::Reverse((_, to, from, priority))) = self.under_way.pop() else {
                    break;
                };
                self.deliver(to, from, priority);
                continue;
            }
            for index in self.alive().collect::<Vec<_>>() {
                let actions = self.nodes[index].instance.tick(self.now);
                self.act(index, actions);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, to: usize, from: usize, priority: u8) {
        if !self.nodes[to].is_alive || self.nodes[to].part != self.nodes[from].part {
            return;
        }
        let advert = Advert {
            version: 3,
            router: 1,
            priority,
            interval: INTERVAL,
            addresses: Vec::new(),
            password: None,
        };
        let (from, own) = (self.nodes[from].address, self.nodes[to].address);
        let actions = self.nodes[to].instance.advert(from, own, &advert, self.now);
        self.act(to, actions);
    }

    fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].is_alive)
    }

    fn masters(&self) -> Vec<usize> {
        self.alive()
            .filter(|index| self.nodes[*index].instance.role() == Role::Master)
            .collect()
    }

    /// Whether nobody but one of the highest priority is master; among equals the first one stays.
    fn is_settled(&self) -> bool {
        let highest = self.alive().map(|index| self.nodes[index].priority).max();
        match (self.masters().as_slice(), highest) {
            ([], None) => true,
            ([master], Some(highest)) => self.nodes[*master].priority == highest,
            _ => false,
        }
    }

    /// Something happens.
    fn disturb(&mut self, what: Fault) {
        let count = self.nodes.len();
        match what {
            Fault::Crash(index) => self.nodes[index % count].is_alive = false,
            Fault::Restart(index) => {
                let node = &mut self.nodes[index % count];
                if !node.is_alive {
                    node.is_alive = true;
                    node.instance.stop("it died");
                    let actions = node.instance.start(self.now, false);
                    self.act(index % count, actions);
                }
            }
            Fault::Leave(index) => {
                let actions = self.nodes[index % count].instance.stop("it ends");
                self.act(index % count, actions);
                self.nodes[index % count].is_alive = false;
            }
            Fault::Part(index, part) => self.nodes[index % count].part = part,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash(usize),
    Restart(usize),
    Leave(usize),
    Part(usize, u8),
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0_usize..5).prop_map(Fault::Crash),
        (0_usize..5).prop_map(Fault::Restart),
        (0_usize..5).prop_map(Fault::Leave),
        ((0_usize..5), (0_u8..3)).prop_map(|(index, part)| Fault::Part(index, part)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_trouble_the_best_that_is_left_is_the_only_master(
        priorities in prop::collection::vec(1_u8..255, 2..6),
        faults in prop::collection::vec((any_fault(), 0_u64..6 * INTERVAL), 0..30),
        loss in 0_u32..40,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, loss, seed);
        for (fault, pause) in faults {
            world.disturb(fault);
            let end = world.now + pause;
            world.run_until(end);
        }
        // The network heals.
        world.is_calm = true;
        for node in &mut world.nodes {
            node.part = 0;
        }
        let end = world.now + PATIENCE;
        world.run_until(end);
        prop_assert!(world.is_settled(), "masters: {:?}", world.masters());
    }

    #[test]
    fn without_trouble_there_is_one_master_from_the_first_on(
        priorities in prop::collection::vec(1_u8..255, 2..6),
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, 0, seed);
        world.is_calm = true;
        world.run_until(PATIENCE);
        let first = world.masters();
        prop_assert!(world.is_settled(), "masters: {first:?}");
        for _ in 0..100 {
            let end = world.now + INTERVAL / 3;
            world.run_until(end);
            prop_assert_eq!(&world.masters(), &first);
        }
        // It dies, and the next one takes over within the time of the protocol.
        let died = first[0];
        world.disturb(Fault::Crash(died));
        // Two equals may both have waited for it; then each has heard the other, too.
        let end = world.now + 5 * INTERVAL;
        world.run_until(end);
        prop_assert!(world.is_settled(), "masters: {:?}", world.masters());
    }
}
