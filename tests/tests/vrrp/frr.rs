//! VRRP beside FRR's vrrpd, an implementation of other people than keepalived's.

use std::time::Duration;

use harness::{
    floating::{self, ROUTERS, await_roles, await_service, floating, roles},
    frr::Frr,
    keepalived::Router,
    lab::{Lab, Plan},
    lbd::Lbd,
    wait::{PATIENCE, eventually, until},
    worker::Worker,
};
use nix::sys::signal::Signal;

/// Runs FRR on the second balancer.
fn frr(lab: &Lab, priority: u8, name: &str) -> Frr {
    let routers: Vec<_> = ROUTERS
        .iter()
        .zip(floating())
        .map(|((_, number), address)| Router {
            number: *number,
            address,
            priority,
            interval: "0.2".to_owned(),
            keys: String::new(),
        })
        .collect();
    Frr::start(lab, 1, name, &routers).unwrap()
}

fn await_status(frr: &Frr, wanted: &str) {
    let status = || {
        let of = |(index, (_, number)): (usize, &(&str, u8))| frr.status(*number, [4, 6][index]).unwrap_or_default();
        ROUTERS.iter().enumerate().map(of).collect::<Vec<_>>()
    };
    let reached = until(PATIENCE, || status() == [wanted; 2]);
    assert!(reached, "{:?}, not {wanted}:\n{}", status(), frr.vrrpd.log());
}

/// FRR as master and as backup; both agree.
fn agrees_with_frr(router_mac: bool) {
    let lab = Lab::build(Plan {
        balancers: 2,
        ..Plan::default()
    })
    .unwrap();
    lab.fabric.stop_flooding().unwrap();
    let _workers = Worker::all(&lab);
    let keys = format!("interval = \"200ms\"\nrouter_mac = {router_mac}\n");
    // FRR moves the addresses alone; packets are those of a balancer beside it that knows no VRRP.
    let mut config = floating::config(&lab, 1, 100, &keys);
    config.node_keys.clear();
    let _beside = Lbd::start(&lab.balancers[1], config).unwrap();

    let mut other = frr(&lab, 150, "high");
    await_status(&other, "Master");
    await_service(&lab);
    let lbd = floating::balancer(&lab, 0, 100, &keys).unwrap();
    floating::stays_backup(&lbd, 150, Duration::from_secs(3));
    other.vrrpd.signal(Signal::SIGTERM).unwrap();
    other.vrrpd.wait(PATIENCE).unwrap();
    await_roles(&lbd, "master");
    drop(other);
    // What it leaves up would answer, too.
    let script = "for device in $(ls /sys/class/net | grep ^frr); do ip link set $device down; done";
    lab.balancers[1].run_script(script).unwrap();
    await_service(&lab);

    // It stays master, and FRR a backup.
    let script = script.replace("down", "up");
    lab.balancers[1].run_script(&script).unwrap();
    let lower = frr(&lab, 50, "low");
    await_status(&lower, "Backup");
    std::thread::sleep(Duration::from_secs(3));
    await_status(&lower, "Backup");
    assert_eq!(roles(&lbd), ["master"; 2], "{}", lower.vrrpd.log());
    drop(lbd);
    await_status(&lower, "Master");
    eventually(PATIENCE, "the address is FRR's", || {
        lower.status(ROUTERS[0].1, 4).unwrap() == "Master"
    });
    await_service(&lab);
}

#[test]
fn version_3_agrees_with_frr() {
    agrees_with_frr(false);
}

#[test]
fn link_layer_addresses_agree_with_frr_s() {
    agrees_with_frr(true);
}
