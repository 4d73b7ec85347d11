//! Next hops against a real kernel, in private network namespaces.

use std::{
    collections::BTreeSet,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use tokio::sync::watch;

use super::{Neighbours, NextHopState, NextHops};
use crate::network::netns::Netns;

/// Long enough for a noisy machine; nothing here should need it.
const PATIENCE: Duration = Duration::from_secs(60);

const BALANCER: (&str, &str) = ("up0", "10.7.0.1/24 2001:db8:7::1/64");
const WORKER: (&str, &str) = ("eth0", "10.7.0.2/24 2001:db8:7::2/64");
const WORKER_MAC: [u8; 6] = [2, 0, 0, 0, 7, 2];

/// A balancer and a worker on one link.
fn pair() -> (Netns, Netns) {
    let (balancer, worker) = (Netns::new(), Netns::new());
    balancer.connect(BALANCER, &worker, WORKER);
    worker.ip("link set eth0 address 02:00:00:00:07:02");
    (balancer, worker)
}

/// The states that a test sees.
struct View {
    neighbours: Neighbours,
    states: watch::Receiver<NextHops>,
}

impl View {
    fn follow(targets: &[&str]) -> Self {
        let (neighbours, states) = Neighbours::spawn().expect("netlink is there");
        let view = Self { neighbours, states };
        view.neighbours
            .set_targets(targets.iter().map(|text| address(text)).collect::<BTreeSet<_>>());
        view
    }

    /// Waits for a state of a target.
    async fn until(&mut self, target: &str, wish: impl Fn(&NextHopState) -> bool) -> NextHopState {
        let target = address(target);
        let seen = self.states.wait_for(|states| states.get(&target).is_some_and(&wish));
        if let Ok(states) = tokio::time::timeout(PATIENCE, seen).await {
            return states.expect("the driver lives")[&target].clone();
        }
        panic!("{target} did not come to the wished state: {:?}", self.states.borrow());
    }

    async fn until_mac(&mut self, target: &str, mac: [u8; 6]) -> NextHopState {
        self.until(target, |state| state.hop.is_some_and(|hop| hop.destination() == mac))
            .await
    }

    async fn until_reason(&mut self, target: &str, reason: &str) -> NextHopState {
        self.until(target, |state| state.hop.is_none() && state.reason.contains(reason))
            .await
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("a test's address")
}

fn run<F: Future<Output = ()>>(namespace: &Netns, test: impl FnOnce() -> F + Send) {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(test());
    });
}

#[test]
fn targets_on_the_link_resolve_in_both_families() {
    let (balancer, _worker) = pair();
    balancer.ip("link set up0 address 02:00:00:00:07:01");
    run(&balancer, || async {
        let mut view = View::follow(&["10.7.0.2", "2001:db8:7::2"]);
        for target in ["10.7.0.2", "2001:db8:7::2"] {
            let state = view.until_mac(target, WORKER_MAC).await;
            assert_eq!(state.hop.unwrap().source(), [2, 0, 0, 0, 7, 1]);
            assert_eq!(state.hop.unwrap().ifindex, state.ifindex);
            assert_eq!(
                (state.interface.as_str(), state.gateway, state.reason.as_str()),
                ("up0", None, "")
            );
        }
    });
}

#[test]
fn targets_that_frames_cannot_reach_say_why_and_hurt_no_other() {
    let (balancer, _worker) = pair();
    balancer.ip("route add unreachable 198.51.100.0/24");
    balancer.ip("route add prohibit 2001:db8:51::/64");
    let table = [
        ("10.7.0.1", "local address"),
        ("127.0.0.1", "local address"),
        ("2001:db8:7::1", "local address"),
        ("::1", "local address"),
        ("192.0.2.1", "no route"),
        ("2001:db8:99::1", "no route"),
        ("198.51.100.1", "unreachable"),
        ("2001:db8:51::1", "prohibit"),
        ("10.7.0.255", "broadcast"),
        ("10.7.0.77", "neighbour failed"),
    ];
    run(&balancer, || async {
        let targets: Vec<_> = table.iter().map(|(target, _)| *target).chain(["10.7.0.2"]).collect();
        let mut view = View::follow(&targets);
        view.until_mac("10.7.0.2", WORKER_MAC).await;
        for (target, reason) in table {
            view.until_reason(target, reason).await;
        }
    });
}

#[test]
fn targets_come_and_go() {
    let (balancer, worker) = pair();
    worker.ip("address add 10.7.0.3/24 dev eth0");
    run(&balancer, || async {
        let mut view = View::follow(&["10.7.0.2"]);
        view.until_mac("10.7.0.2", WORKER_MAC).await;
        view.neighbours.set_targets([address("10.7.0.3")].into());
        view.until_mac("10.7.0.3", WORKER_MAC).await;
        assert_eq!(view.states.borrow().len(), 1);
    });
}

#[test]
fn a_new_link_layer_address_that_the_peer_announces_is_followed() {
    let (balancer, worker) = pair();
    run(&balancer, || async {
        let mut view = View::follow(&["10.7.0.2"]);
        view.until_mac("10.7.0.2", WORKER_MAC).await;
        worker.ip("link set eth0 address 02:00:00:00:07:99");
        // The first packet of the worker is an ARP request, which has its new address.
        worker.run(|| {
            UdpSocket::bind("10.7.0.2:0")
                .unwrap()
                .send_to(b"hello", "10.7.0.1:9")
                .unwrap()
        });
        view.until_mac("10.7.0.2", [2, 0, 0, 0, 7, 0x99]).await;
    });
}

#[test]
fn a_new_link_layer_address_is_found_even_if_the_peer_keeps_silent() {
    let (balancer, worker) = pair();
    for (parameter, value) in [
        ("base_reachable_time_ms", "500"),
        ("delay_first_probe_time", "1"),
        ("retrans_time_ms", "100"),
    ] {
        balancer.sysctl(&format!("ipv4/neigh/up0/{parameter}"), value);
    }
    run(&balancer, || async {
        let mut view = View::follow(&["10.7.0.2"]);
        view.until_mac("10.7.0.2", WORKER_MAC).await;
        worker.ip("link set eth0 address 02:00:00:00:07:99");
        view.until_mac("10.7.0.2", [2, 0, 0, 0, 7, 0x99]).await;
    });
}

#[test]
fn a_link_that_goes_down_and_comes_back_is_followed() {
    let (balancer, worker) = pair();
    run(&balancer, || async {
        let mut view = View::follow(&["10.7.0.2", "2001:db8:7::2"]);
        view.until_mac("10.7.0.2", WORKER_MAC).await;
        worker.ip("link set eth0 down");
        view.until_reason("10.7.0.2", "no carrier").await;
        view.until("2001:db8:7::2", |state| state.hop.is_none()).await;
        worker.ip("link set eth0 up");
        view.until_mac("10.7.0.2", WORKER_MAC).await;
        balancer.ip("link set up0 down");
        view.until_reason("10.7.0.2", "no route").await;
    });
}

#[test]
fn a_route_that_moves_to_another_router_is_followed() {
    let (balancer, first) = pair();
    let second = Netns::new();
    balancer.connect(("up1", "10.8.0.1/24"), &second, ("eth0", "10.8.0.2/24"));
    second.ip("link set eth0 address 02:00:00:00:08:02");
    balancer.ip("route add 10.99.0.0/16 via 10.7.0.2");
    run(&balancer, || async {
        let mut view = View::follow(&["10.99.0.1"]);
        let state = view.until_mac("10.99.0.1", WORKER_MAC).await;
        assert_eq!(
            (state.interface.as_str(), state.gateway),
            ("up0", Some(address("10.7.0.2")))
        );
        balancer.ip("route replace 10.99.0.0/16 via 10.8.0.2");
        let state = view.until_mac("10.99.0.1", [2, 0, 0, 0, 8, 2]).await;
        assert_eq!(
            (state.interface.as_str(), state.gateway),
            ("up1", Some(address("10.8.0.2")))
        );
        balancer.ip("route del 10.99.0.0/16");
        view.until_reason("10.99.0.1", "no route").await;
    });
    drop(first);
}

#[test]
fn an_ipv4_target_may_lie_behind_an_ipv6_router() {
    let (balancer, _worker) = pair();
    balancer.ip("route add 10.98.0.0/16 via inet6 2001:db8:7::2 dev up0");
    run(&balancer, || async {
        let mut view = View::follow(&["10.98.0.1"]);
        let state = view.until_mac("10.98.0.1", WORKER_MAC).await;
        assert_eq!(state.gateway, Some(address("2001:db8:7::2")));
    });
}

#[test]
fn hundreds_of_targets_resolve_through_a_burst_of_events() {
    let (balancer, _worker) = pair();
    let targets: Vec<String> = (0..400).map(|i| format!("10.97.{}.{}", i / 200, i % 200 + 1)).collect();
    run(&balancer, || async {
        let names: Vec<_> = targets.iter().map(String::as_str).collect();
        let mut view = View::follow(&names);
        view.until_reason(names[0], "no route").await;
        balancer.ip("route add 10.97.0.0/16 via 10.7.0.2");
        for name in &names {
            view.until_mac(name, WORKER_MAC).await;
        }
    });
}

#[test]
fn the_largest_packet_of_a_link_is_followed() {
    let (balancer, _worker) = pair();
    run(&balancer, || async {
        let mut view = View::follow(&["10.7.0.2"]);
        for (change, mtu) in [
            ("", 1500),
            ("link set up0 mtu 1400", 1400),
            ("link set up0 mtu 9000", 9000),
        ] {
            if !change.is_empty() {
                balancer.ip(change);
            }
            view.until("10.7.0.2", |state| state.hop.is_some_and(|hop| hop.mtu == mtu))
                .await;
        }
    });
}

#[test]
#[ignore = "needs a kernel with VLAN interfaces (CONFIG_VLAN_8021Q)"]
fn targets_behind_vlans_are_reached_by_tagged_frames() {
    let (balancer, worker) = (Netns::new(), Netns::new());
    balancer.connect(("up0", "10.6.0.1/24"), &worker, ("eth0", "10.6.0.2/24"));
    worker.ip("link set eth0 address 02:00:00:00:07:02");
    for (namespace, device, host) in [(&balancer, "up0", 1), (&worker, "eth0", 2)] {
        namespace.ip(&format!("link add link {device} name v100 type vlan id 100"));
        namespace.ip(&format!(
            "link add link {device} name s300 type vlan proto 802.1ad id 300"
        ));
        namespace.ip("link add link s300 name v200 type vlan id 200");
        namespace.ip(&format!("address add 10.7.1.{host}/24 dev v100"));
        namespace.ip(&format!("address add 10.7.2.{host}/24 dev v200"));
        namespace.ip("link set v100 up");
        namespace.ip("link set s300 up");
        namespace.ip("link set v200 up");
    }
    run(&balancer, || async {
        let mut view = View::follow(&["10.6.0.2", "10.7.1.2", "10.7.2.2"]);
        let plain = view.until_mac("10.6.0.2", WORKER_MAC).await;
        let tag = |id: u16| lb_common::Tags::vlan(id).0;
        for (target, device, tags) in [
            ("10.7.1.2", "v100", tag(100)),
            ("10.7.2.2", "v200", tag(200) << 16 | tag(300)),
        ] {
            let state = view.until_mac(target, WORKER_MAC).await;
            let hop = state.hop.unwrap();
            assert_eq!((state.interface.as_str(), hop.tags.0, hop.mtu), (device, tags, 1500));
            assert_eq!(hop.ifindex, plain.ifindex, "sent by the interface below");
            assert_ne!(state.ifindex, plain.ifindex);
        }
        balancer.ip("link set up0 down");
        view.until("10.7.2.2", |state| state.hop.is_none()).await;
    });
}
