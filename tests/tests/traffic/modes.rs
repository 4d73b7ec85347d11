//! Every forwarding mode with traffic of real sockets: what arrives, who serves it, and what
//! `lbctl` shows of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use harness::{
    client::{Load, fetch},
    config::Config,
    content::{self, Hash},
    decap::Tunnel,
    forwarding::Forwarding,
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    udp::{self, UdpEcho},
    wait::{PATIENCE, eventually, until},
    worker::{Worker, upload_digest},
};
use hyper::{Method, body::Bytes};
use serde_json::Value;

const LENGTH: usize = 3_000_000;
const MTU: usize = 1500;

/// A module for each forwarding mode, and in it a test for each scenario.
macro_rules! scenarios {
    ($($mode:ident: $forwarding:expr => [$($scenario:ident),+ $(,)?];)+) => {$(
        mod $mode {
            use super::*;
            $(
                #[test]
                fn $scenario() {
                    super::$scenario($forwarding);
                }
            )+
        }
    )+};
}

const IPIP: Forwarding = tunnel(Tunnel::Ipip, false);
const IPIP_CROSSED: Forwarding = tunnel(Tunnel::Ipip, true);
const GUE: Forwarding = tunnel(Tunnel::Gue, false);
const GUE_CROSSED: Forwarding = tunnel(Tunnel::Gue, true);

scenarios! {
    nat: Forwarding::Nat => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        datagrams_larger_than_the_mtu_are_echoed,
    ];
    dnat: Forwarding::Dnat => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        datagrams_larger_than_the_mtu_are_echoed,
    ];
    dsr: Forwarding::Dsr => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        datagrams_larger_than_the_mtu_are_echoed,
    ];
    ipip: IPIP => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        full_sized_segments_are_answered_and_then_fit,
    ];
    ipip_crossed: IPIP_CROSSED => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        full_sized_segments_are_answered_and_then_fit,
    ];
    gue: GUE => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        full_sized_segments_are_answered_and_then_fit,
    ];
    gue_crossed: GUE_CROSSED => [
        transfers_arrive_whole_in_both_directions,
        connections_are_spread_and_listed,
        datagrams_are_echoed_and_their_flows_listed,
        full_sized_segments_are_answered_and_then_fit,
    ];
}

const fn tunnel(tunnel: Tunnel, crossed: bool) -> Forwarding {
    Forwarding::Tunnel { tunnel, crossed }
}

fn transfers_arrive_whole_in_both_directions(forwarding: Forwarding) {
    let (lab, decapsulators) = forwarding.lab().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(forwarding, &lab, "tcp", 80);
    let expected = content::bytes(LENGTH);
    for target in targets(80) {
        let download = ask(&lab, target, Method::GET, &format!("/bytes/{LENGTH}"), Bytes::new());
        assert_eq!(
            (download.len(), Hash::of(&download)),
            (LENGTH, Hash::of(&expected)),
            "{forwarding:?} {target}: {}",
            outcomes(&lbd)
        );
        upload(forwarding, &lab, &lbd, target, &expected);
        if let Forwarding::Tunnel { crossed, .. } = forwarding {
            let (inner_v6, outer_v6) = (target.is_ipv6(), target.is_ipv6() != crossed);
            let carried: u64 = decapsulators.iter().map(|end| end.carried(inner_v6, outer_v6)).sum();
            assert!(
                carried > (LENGTH / MTU) as u64,
                "{forwarding:?} {target}: {decapsulators:?}"
            );
        }
    }
    assert!(decapsulators.iter().all(|end| end.refused() == 0), "{decapsulators:?}");
}

fn connections_are_spread_and_listed(forwarding: Forwarding) {
    let (lab, _decapsulators) = forwarding.lab().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(forwarding, &lab, "tcp", 80);
    for target in targets(80) {
        let report = Load::new(target).run(&lab.client.namespace);
        report.assert_flawless();
        let spread = ["worker-1", "worker-2"].map(|worker| report.of(worker));
        assert_eq!(spread, [50, 50], "{forwarding:?} {target}: {}", outcomes(&lbd));

        let load = Load::new(target).concurrency(6).keep_alive();
        let traffic = load.endless(Duration::from_millis(10)).start(&lab.client.namespace);
        eventually(PATIENCE, "six connections are open", || {
            traffic.report().connections == 6
        });
        let open = || count(flows(&lbd, target), |flow| flow["phase"] == "established");
        let shown = until(PATIENCE, || open().values().sum::<usize>() == 6);
        let flows = flows(&lbd, target);
        assert!(shown, "{forwarding:?} {target}: {flows:#?}");
        assert_eq!(
            open().into_values().collect::<Vec<_>>(),
            [3, 3],
            "{forwarding:?} {target}: {flows:#?}"
        );
        traffic.stop().assert_flawless();
    }
}

fn datagrams_are_echoed_and_their_flows_listed(forwarding: Forwarding) {
    let (lab, _decapsulators) = forwarding.lab().unwrap();
    let _echoes = echoes(forwarding, &lab, 53);
    let lbd = balance(forwarding, &lab, "udp", 53);
    for target in targets(53) {
        let report = udp::ask(&lab.client.namespace, target, 20, b"question", PATIENCE);
        assert_eq!(
            report.failures,
            Vec::<String>::new(),
            "{forwarding:?} {target}: {}",
            outcomes(&lbd)
        );
        assert_eq!(
            report.per_worker.into_values().collect::<Vec<_>>(),
            [10, 10],
            "{forwarding:?} {target}"
        );
        let listed = count(flows(&lbd, target), |flow| flow["protocol"] == "udp");
        assert_eq!(
            listed.into_values().collect::<Vec<_>>(),
            [10, 10],
            "{forwarding:?} {target}"
        );

        let socket = lab.client.namespace.run(|| udp::connect(target, PATIENCE)).unwrap();
        let first = udp::ask_once(&socket, b"again").unwrap();
        // The longest payload of one packet in any tunnel, and none at all.
        for payload in [&content::bytes(1400)[..], b""] {
            assert_eq!(
                udp::ask_once(&socket, payload).unwrap(),
                first,
                "{forwarding:?} {target}"
            );
        }
    }
}

fn datagrams_larger_than_the_mtu_are_echoed(forwarding: Forwarding) {
    let (lab, _decapsulators) = forwarding.lab().unwrap();
    let _echoes = echoes(forwarding, &lab, 53);
    let lbd = balance(forwarding, &lab, "udp", 53);
    for target in targets(53) {
        let fragments = 2 + 3 + 6 + 9;
        for length in [MTU, 4_000, 8_000, 12_000] {
            let report = udp::ask(&lab.client.namespace, target, 20, &content::bytes(length), PATIENCE);
            assert_eq!(
                report.failures,
                Vec::<String>::new(),
                "{forwarding:?} {target}, {length} bytes: {}",
                outcomes(&lbd)
            );
            // Not exactly: a port that an earlier round has freed may be used again, and is still
            // the flow that it was.
            assert_eq!(report.per_worker.len(), 2, "{forwarding:?} {target}, {length} bytes");
        }
        let packets = flows_packets(&lbd, target);
        assert!(packets >= 20 * fragments, "{forwarding:?} {target}: {packets}");
    }
}

fn full_sized_segments_are_answered_and_then_fit(forwarding: Forwarding) {
    let (lab, _decapsulators) = forwarding.lab().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(forwarding, &lab, "tcp", 80);
    let expected = content::bytes(LENGTH);
    for target in targets(80) {
        let before = too_big(&lbd);
        upload(forwarding, &lab, &lbd, target, &expected);
        let answered = too_big(&lbd);
        assert!(answered > before, "{forwarding:?} {target}: {}", outcomes(&lbd));

        let route = lab.client.run_script(&format!("ip route get {}", target.ip())).unwrap();
        let expected_mtu = format!("mtu {} ", MTU - forwarding.overhead(target.ip()));
        assert!(
            route.contains(&expected_mtu),
            "{forwarding:?} {target}: {expected_mtu}in {route}"
        );

        // The client knows the MTU of the path now.
        upload(forwarding, &lab, &lbd, target, &expected);
        assert_eq!(too_big(&lbd), answered, "{forwarding:?} {target}");
    }
}

/// An echo server for each virtual address on each worker.
fn echoes(forwarding: Forwarding, lab: &Lab, port: u16) -> Vec<UdpEcho> {
    let of = |service: IpAddr| {
        lab.workers.iter().map(move |host| {
            let address = forwarding.answering(host, service);
            UdpEcho::start_at(host, (address, port).into()).unwrap()
        })
    };
    virtual_addresses(0).into_iter().flat_map(of).collect()
}

/// A balancer with a service for each virtual address.
fn balance<'a>(forwarding: Forwarding, lab: &'a Lab, protocol: &'static str, port: u16) -> Lbd<'a> {
    let config = targets(port)
        .into_iter()
        .fold(Config::new(lab, "balancer"), |config, target| {
            config.with(forwarding.service(lab, name(target), protocol, target))
        });
    Lbd::start(&lab.balancers[0], config).unwrap()
}

fn targets(port: u16) -> [SocketAddr; 2] {
    virtual_addresses(0).map(|address| SocketAddr::new(address, port))
}

/// Name of the service with that virtual address.
fn name(target: SocketAddr) -> &'static str {
    if target.is_ipv4() { "v4" } else { "v6" }
}

fn ask(lab: &Lab, target: SocketAddr, method: Method, path: &str, body: Bytes) -> Bytes {
    let answer = fetch(&lab.client.namespace, target, method, path, body, 3 * PATIENCE);
    answer.unwrap_or_else(|error| panic!("{target}{path}: {error:#}")).body
}

#[track_caller]
fn upload(forwarding: Forwarding, lab: &Lab, lbd: &Lbd<'_>, target: SocketAddr, body: &Bytes) {
    let digest = ask(lab, target, Method::POST, "/upload", body.clone());
    let expected = upload_digest(body.len(), Hash::of(body));
    assert_eq!(digest, expected, "{forwarding:?} {target}: {}", outcomes(lbd));
}

/// The flows of a service that `lbctl` shows, all of which must be of this client and virtual
/// address.
fn flows(lbd: &Lbd<'_>, target: SocketAddr) -> Vec<Value> {
    let page = lbd
        .lbctl(&["flow", "list", "--limit", "10000", "--service", name(target)])
        .unwrap();
    let flows = page["flows"].as_array().unwrap().clone();
    for flow in &flows {
        assert_eq!(flow["virtual_address"], target.to_string(), "{flow}");
    }
    flows
}

/// How many of the flows are wanted, by backend.
fn count(flows: Vec<Value>, wanted: impl Fn(&Value) -> bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for flow in flows.iter().filter(|flow| wanted(flow)) {
        *counts
            .entry(flow["backend_name"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    counts
}

/// Packets that went to the workers of a service.
fn flows_packets(lbd: &Lbd<'_>, target: SocketAddr) -> u64 {
    let backends = lbd.lbctl(&["backend", "list"]).unwrap();
    let rows = backends.as_array().unwrap().iter();
    rows.filter(|row| row["service"] == name(target))
        .map(|row| row["to_worker_packets"].as_u64().unwrap())
        .sum()
}

fn outcomes(lbd: &Lbd<'_>) -> Value {
    lbd.lbctl(&["node", "status"]).unwrap()["outcomes"].take()
}

/// How many packets were answered with ICMP because they did not fit.
fn too_big(lbd: &Lbd<'_>) -> u64 {
    outcomes(lbd)["too_big"].as_u64().unwrap_or(0)
}
