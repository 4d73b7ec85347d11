//! Faults that the simulation injects.

use lb_common::VirtualRouter;
use proptest::prelude::*;

use super::{INTERVAL, Inactive, Micros, World, group};

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The node dies.
    Crash(usize),
    /// The controller dies, the packet path still runs.
    Orphan(usize),
    /// The controller starts.
    Restart(usize),
    /// The controller shuts down.
    Leave(usize),
    /// The controller stalls for that time.
    Stall(usize, Micros),
    /// An operator orders `release` (true) or `take` (false).
    Order(usize, bool),
    /// The node is in that partition of that network.
    Partition(usize, usize, u8),
    /// The link to that network goes up or down.
    Link(usize, usize, bool),
}

pub(super) fn any_fault() -> impl Strategy<Value = Fault> {
    let node = 0_usize..5;
    prop_oneof![
        node.clone().prop_map(Fault::Crash),
        node.clone().prop_map(Fault::Orphan),
        node.clone().prop_map(Fault::Restart),
        node.clone().prop_map(Fault::Leave),
        (node.clone(), 0..12 * INTERVAL).prop_map(|(node, length)| Fault::Stall(node, length)),
        (node.clone(), any::<bool>()).prop_map(|(node, is_release)| Fault::Order(node, is_release)),
        (node.clone(), 0_usize..3, 0_u8..3).prop_map(|(node, network, part)| Fault::Partition(node, network, part)),
        (node, 0_usize..3, any::<bool>()).prop_map(|(node, network, up)| Fault::Link(node, network, up)),
    ]
}

impl World {
    /// Injects a fault.
    pub(super) fn inject(&mut self, fault: Fault) {
        let count = self.nodes.len();
        let networks = self.networks();
        match fault {
            Fault::Crash(index) => {
                let node = &mut self.nodes[index % count];
                (node.has_controller, node.has_path) = (false, false);
                // Its maps are lost.
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
                    self.start(index);
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
            Fault::Partition(index, network, part) => self.nodes[index % count].parts[network % networks] = part,
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

    /// Repairs links and partitions, and makes the network perfect.
    pub(super) fn heal(&mut self) {
        self.is_calm = true;
        for index in 0..self.nodes.len() {
            self.nodes[index].parts.fill(0);
            for network in 0..self.networks() {
                self.set_link(index, network, true);
            }
        }
    }
}
