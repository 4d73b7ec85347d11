//! Health checks of the virtual address, sent through each worker.

use std::net::{IpAddr, SocketAddr};

use harness::{
    client::{Load, fetch},
    config::Config,
    decap::Tunnel,
    forwarding::Forwarding,
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    topology::Host,
    wait::PATIENCE,
    worker::Worker,
};
use hyper::{Method, body::Bytes};

/// The names of the services, IPv4 first.
const NAMES: [&str; 2] = ["v4", "v6"];

const fn tunnel(tunnel: Tunnel, crossed: bool) -> Forwarding {
    Forwarding::Tunnel { tunnel, crossed }
}

#[test]
fn dsr() {
    a_worker_has_to_be_set_up_for_the_virtual_address(Forwarding::Dsr);
}

#[test]
fn ipip() {
    a_worker_has_to_be_set_up_for_the_virtual_address(tunnel(Tunnel::Ipip, false));
}

#[test]
fn ipip_crossed() {
    a_worker_has_to_be_set_up_for_the_virtual_address(tunnel(Tunnel::Ipip, true));
}

#[test]
fn gue() {
    a_worker_has_to_be_set_up_for_the_virtual_address(tunnel(Tunnel::Gue, false));
}

#[test]
fn gue_crossed() {
    a_worker_has_to_be_set_up_for_the_virtual_address(tunnel(Tunnel::Gue, true));
}

/// The keys of the check. Where the outer family differs, the check needs a source address.
fn health(forwarding: Forwarding, balancer: &Host, service: IpAddr) -> String {
    let source = match forwarding {
        Forwarding::Tunnel { crossed: true, .. } => format!("source = \"{}\"\n", balancer.address_like(service)),
        _ => String::new(),
    };
    format!(
        "type = \"http\"\npath = \"/healthz\"\ntarget = \"virtual\"\n{source}interval = \"300ms\"\ntimeout = \"300ms\"\n\
         rise = 1\nfall = 3\n"
    )
}

fn balance<'a>(forwarding: Forwarding, lab: &'a Lab) -> Lbd<'a> {
    let balancer = &lab.balancers[0];
    let config =
        virtual_addresses(0)
            .into_iter()
            .zip(NAMES)
            .fold(Config::new(lab, "balancer"), |config, (address, name)| {
                let service = forwarding.service(lab, name, "tcp", SocketAddr::new(address, 80));
                config.with(service.health(&health(forwarding, balancer, address)))
            });
    Lbd::start(balancer, config).unwrap()
}

fn a_worker_has_to_be_set_up_for_the_virtual_address(forwarding: Forwarding) {
    let (lab, _decapsulators) = forwarding.lab().unwrap();
    let workers = Worker::all(&lab);
    let mut lbd = balance(forwarding, &lab);
    for name in NAMES {
        lbd.await_all_up(name);
    }
    for (address, name) in virtual_addresses(0).into_iter().zip(NAMES) {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let worker = &lab.workers[0];
        worker
            .namespace
            .ip(&format!("address del {address}/{length} dev lo"))
            .unwrap();
        lbd.await_state(name, "worker-1", "down");
        // Its own address answers all the time.
        let own = SocketAddr::new(worker.address_like(address), 80);
        let asked = fetch(
            &lab.client.namespace,
            own,
            Method::GET,
            "/healthz",
            Bytes::new(),
            PATIENCE,
        );
        assert_eq!(asked.unwrap().status, 200);
        lbd.await_state(name, "worker-2", "up");
        let before = workers[0].requests();
        let target = SocketAddr::new(address, 80);
        Load::new(target)
            .requests(10)
            .run(&lab.client.namespace)
            .assert_flawless();
        assert_eq!(workers[0].requests(), before, "nobody asks a worker that is down");
        worker
            .namespace
            .ip(&format!(
                "address add {address}/{length} dev lo {}",
                if length == 128 { "nodad" } else { "" }
            ))
            .unwrap();
        lbd.await_state(name, "worker-1", "up");
    }
    lbd.kill9().unwrap();
    lbd.restart().unwrap();
    for name in NAMES {
        lbd.await_all_up(name);
    }
    lbd.terminate().unwrap();
    let devices = lab.balancers[0]
        .run_script("ip -o link show type tun; tc filter show dev eth0 ingress")
        .unwrap();
    assert_eq!(devices.trim(), "", "nothing is left");
}

#[test]
fn a_device_that_somebody_deletes_is_made_anew() {
    let forwarding = Forwarding::Dsr;
    let (lab, _decapsulators) = forwarding.lab().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(forwarding, &lab);
    for name in NAMES {
        lbd.await_all_up(name);
    }
    let namespace = &lab.balancers[0].namespace;
    let devices = || {
        let shown = lab.balancers[0].run_script("ip -o link show type tun").unwrap();
        let names = shown
            .lines()
            .filter_map(|line| Some(line.split(": ").nth(1)?.to_owned()));
        names.collect::<Vec<_>>()
    };
    let [device] = &devices()[..] else {
        panic!("{:?}", devices())
    };
    namespace.ip(&format!("link del {device}")).unwrap();
    // That changes no state, and checks continue.
    let worker = &lab.workers[0].namespace;
    let [v4, _] = virtual_addresses(0);
    worker.ip(&format!("address del {v4}/32 dev lo")).unwrap();
    lbd.await_state(NAMES[0], "worker-1", "down");
    lbd.await_state(NAMES[0], "worker-2", "up");
    worker.ip(&format!("address add {v4}/32 dev lo")).unwrap();
    lbd.await_all_up(NAMES[0]);
    assert_eq!(devices().len(), 1);
}
