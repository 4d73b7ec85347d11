//! Controllers that die alone, return, are maintained or get other configurations, while addresses
//! move by VRRP.

use std::time::Duration;

use harness::{
    client::Load,
    floating::{self, await_roles, await_service, await_turn, config, floating, has_addresses, pair, roles, turns},
    lab::Lab,
    lbd::Lbd,
    topology::Subnet,
    wait::{PATIENCE, eventually, until},
    witness::Witness,
    worker::Worker,
};
use serde_json::Value;

const FAST: &str = "interval = \"100ms\"\n";
const ROUTER_MAC: &str = "router_mac = true\n";

fn count(lbd: &Lbd<'_>, kind: &str) -> usize {
    let events = lbd.lbctl(&["event", "list", "--limit", "1000"]).unwrap();
    let events = events["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter(|event| event["kind"] == kind).count()
}

fn outcome(lbd: &Lbd<'_>, name: &str) -> u64 {
    let entries = lbd.lbctl(&["map", "dump", "OUTCOMES"]).unwrap();
    let entry = entries
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["key"] == name)
        .cloned();
    entry.unwrap_or_else(|| panic!("{name} is not among {entries}"))["count"]
        .as_u64()
        .unwrap()
}

/// Lets the client ask anew who has the addresses.
fn forget_neighbours(lab: &Lab) {
    // To flush would also end what is being asked for, over and over, and with it the connections
    // that wait for the answer.
    for address in floating() {
        let forget = format!("ip neigh del {address} dev eth0 || true");
        lab.client.run_script(&forget).unwrap();
    }
}

#[test]
fn a_controller_that_returns_within_the_grace_finds_all_as_it_was() {
    returns_within_the_grace("");
}

#[test]
fn a_controller_of_a_group_that_returns_within_the_grace_finds_all_as_it_was() {
    returns_within_the_grace("group = \"edge\"\n");
}

fn returns_within_the_grace(keys: &str) {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [mut first, second] = pair(&lab, &format!("interval = \"300ms\"\ngrace = \"60s\"\n{keys}"));
    await_service(&lab);
    let promoted = count(&second, "vrrp-master");
    let target = std::net::SocketAddr::new(floating()[0], 80);
    let traffic = Load::new(target)
        .endless(Duration::from_millis(2))
        .start(&lab.client.namespace);

    first.kill9().unwrap();
    let is_graced = until(PATIENCE, || {
        let status = second.lbctl(&["vrrp", "status"]).unwrap();
        status.as_array().unwrap().iter().all(|row| row["graced"] == true)
    });
    let status = second.lbctl(&["vrrp", "status"]).unwrap();
    assert!(
        is_graced,
        "the adverts are missing, and the packet path answers: {status}\n{}",
        second.log()
    );
    // Clients that ask now still find it.
    forget_neighbours(&lab);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(roles(&second), ["backup"; 2], "{}", second.log());
    assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2]);
    assert!(count(&second, "vrrp-grace") >= 2, "the grace is an event");

    if keys.contains("group") {
        // The health of one virtual router is known later than that of the other.
        let track = "[[vrrp.track]]\nargv = [\"/bin/sleep\", \"0.5\"]\ninterval = \"10s\"\ntimeout = \"10s\"\n";
        first.reconfigure(|config| config.node_keys += track).unwrap();
    }
    first.restart().unwrap();
    await_roles(&first, "master");
    eventually(PATIENCE, "the backup hears its adverts again", || {
        let status = second.lbctl(&["vrrp", "status"]).unwrap();
        status.as_array().unwrap().iter().all(|row| row["graced"] == false)
    });
    traffic.stop().assert_flawless();
    assert_eq!(
        count(&second, "vrrp-master"),
        promoted,
        "nobody took over: {}",
        second.log()
    );
    let changes = ["vrrp-backup", "vrrp-fault"].map(|kind| count(&first, kind));
    assert_eq!(changes, [0, 0], "it continued as it was: {}", first.log());
}

#[test]
fn a_controller_that_returns_within_the_grace_waits_for_no_checks() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let keys = "interval = \"300ms\"\ngrace = \"60s\"\n";
    let mut config = floating::config(&lab, 0, 200, keys);
    for service in &mut config.services {
        // No worker listens there. Until the checks know that again, the grace is over.
        service.health = "type = \"tcp\"\nport = 4711\ninterval = \"30s\"\nrise = 3\nfall = 1\n".to_owned();
    }
    let mut first = Lbd::start(&lab.balancers[0], config).unwrap();
    await_roles(&first, "master");
    let second = floating::balancer(&lab, 1, 100, keys).unwrap();
    floating::await_backup(&second);
    first.kill9().unwrap();
    first.restart().unwrap();
    await_roles(&first, "master");
    eventually(PATIENCE, "the backup hears its adverts again", || {
        let status = second.lbctl(&["vrrp", "status"]).unwrap();
        status.as_array().unwrap().iter().all(|row| row["graced"] == false)
    });
    assert_eq!(count(&second, "vrrp-master"), 0, "{}", second.log());
    assert_eq!(roles(&first), ["master"; 2]);
}

#[test]
fn a_controller_that_ends_before_it_has_decided_anything_hands_over() {
    let lab = floating::lab(2);
    let [mut first, second] = pair(&lab, "interval = \"300ms\"\ngrace = \"5m\"\ngroup = \"edge\"\n");
    first.kill9().unwrap();
    // Until that ends it is not known whether it can be master.
    let track = "[[vrrp.track]]\nargv = [\"/bin/sleep\", \"60\"]\ninterval = \"2m\"\ntimeout = \"2m\"\n";
    first.reconfigure(|config| config.node_keys += track).unwrap();
    first.restart().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2], "it may still be master");
    first.terminate().unwrap();
    assert_eq!(has_addresses(&lab, 0).unwrap(), [false; 2]);
    await_roles(&second, "master");
}

#[test]
fn an_orphan_is_no_second_owner_once_its_grace_is_over() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [mut first, second] = pair(&lab, &format!("{FAST}grace = \"1s\""));
    await_service(&lab);
    first.kill9().unwrap();
    await_roles(&second, "master");
    // Both have the addresses, and one answers for them.
    assert_eq!(
        (has_addresses(&lab, 0).unwrap(), has_addresses(&lab, 1).unwrap()),
        (vec![true; 2], vec![true; 2])
    );
    let silenced = outcome(&first, "orphan_silenced");
    let mac = lab.balancers[1].mac();
    for _ in 0..10 {
        forget_neighbours(&lab);
        await_service(&lab);
        for address in floating() {
            let found = lab.client.run_script(&format!("ip neigh show {address}")).unwrap();
            assert!(found.contains(&mac), "{found}, not {mac}");
        }
    }
    assert!(
        outcome(&first, "orphan_silenced") >= silenced + 2,
        "its kernel was asked"
    );

    // It adopts what is true by now: another one was master. Then it takes back what is its own.
    first.restart().unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    let events = first.lbctl(&["event", "list", "--limit", "1000"]).unwrap().to_string();
    assert!(events.contains("listening for adverts"), "{events}");
    await_service(&lab);
}

#[test]
fn a_controller_that_hangs_loses_its_addresses_and_follows_when_it_wakes() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [first, second] = pair(&lab, &format!("{FAST}grace = \"1s\""));
    first.signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    await_roles(&second, "master");
    forget_neighbours(&lab);
    await_service(&lab);
    first.signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    // It is the better one.
    await_roles(&second, "backup");
    await_roles(&first, "master");
    await_service(&lab);
}

/// Moves the address there and back by every command that an operator has, under traffic.
fn moves_on_purpose(family: usize, keys: &str) {
    let lab = floating::lab(2);
    // Cards take no frames that are for others; these ones would, and forward them.
    lab.fabric.stop_flooding().unwrap();
    let _workers = Worker::all(&lab);
    let [mut first, second] = pair(&lab, &format!("{FAST}group = \"edge\"\n{keys}"));
    let witness = Witness::at(&lab, floating()[family]);
    first.lbctl(&["vrrp", "maintain", "v4"]).unwrap();
    await_roles(&second, "master");
    assert!(witness.is_flowing(), "handed over to be maintained");
    first.lbctl(&["vrrp", "resume", "v4"]).unwrap();
    await_roles(&first, "master");
    assert!(witness.is_flowing(), "resumed");
    let before = turns(&second);
    first.lbctl(&["vrrp", "release", "v6"]).unwrap();
    await_turn(&second, before);
    assert!(witness.is_flowing(), "released");
    first.lbctl(&["vrrp", "take", "v4"]).unwrap();
    await_roles(&first, "master");
    assert!(witness.is_flowing(), "taken");
    first.terminate().unwrap();
    await_roles(&second, "master");
    assert!(witness.is_flowing(), "stopped");
    first.restart().unwrap();
    await_roles(&first, "master");
    assert!(witness.is_flowing(), "started");
    let relayed = outcome(&first, "relayed") + outcome(&second, "relayed");
    println!("{relayed} packets relayed");
    assert!(relayed > 0, "connections continued through the former master");
    witness.assert_flawless("an address that moves on purpose");
}

#[test]
fn no_connection_ends_because_an_address_moves_on_purpose() {
    moves_on_purpose(0, "");
}

#[test]
fn no_connection_ends_because_an_ipv6_address_moves_on_purpose() {
    moves_on_purpose(1, "");
}

#[test]
fn no_connection_ends_because_a_link_layer_address_moves_on_purpose() {
    moves_on_purpose(0, ROUTER_MAC);
}

#[test]
fn no_connection_ends_because_a_link_layer_address_of_ipv6_moves_on_purpose() {
    moves_on_purpose(1, ROUTER_MAC);
}

#[test]
fn virtual_routers_of_a_group_move_together() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [first, second] = pair(&lab, &format!("{FAST}group = \"edge\""));
    // It releases them for a short time, and takes them back.
    let before = [turns(&second), turns(&first)];
    first.lbctl(&["vrrp", "release", "v4"]).unwrap();
    await_turn(&second, before[0]);
    await_turn(&first, before[1]);
    await_roles(&second, "backup");
    await_service(&lab);
}

#[test]
fn a_balancer_without_preemption_takes_over_on_command() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [first, second] = pair(&lab, &format!("{FAST}preempt = false\ngroup = \"edge\""));
    first.lbctl(&["vrrp", "maintain", "v4"]).unwrap();
    await_roles(&second, "master");
    first.lbctl(&["vrrp", "resume", "v4"]).unwrap();
    // Several times as long as it would wait for a master that is gone.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(roles(&second), ["master"; 2]);
    first.lbctl(&["vrrp", "take", "v4"]).unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    await_service(&lab);
}

#[test]
fn one_that_is_maintained_stays_backup_across_restarts() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [mut first, mut second] = pair(&lab, &format!("{FAST}group = \"edge\""));
    first.lbctl(&["vrrp", "maintain", "v4"]).unwrap();
    await_roles(&second, "master");
    first.terminate().unwrap();
    first.restart().unwrap();
    await_roles(&first, "backup");
    let refused = format!("{:#}", first.lbctl(&["vrrp", "take", "v6"]).unwrap_err());
    assert!(refused.contains("v6 is in maintenance"), "{refused}");
    // Also when the other one ends.
    second.terminate().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(roles(&first), ["backup"; 2]);
    let status = first.lbctl(&["vrrp", "status"]).unwrap();
    assert!(
        status.as_array().unwrap().iter().all(|row| row["maintained"] == true),
        "{status}"
    );
    first.lbctl(&["vrrp", "resume", "v6"]).unwrap();
    await_roles(&first, "master");
    await_service(&lab);
}

#[test]
fn virtual_routers_change_by_a_reload_and_leave_nothing_behind() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [mut first, second] = pair(&lab, FAST);
    let [v4, _] = floating();
    let other = Subnet::Fabric.v4(201);
    let shown = |lab: &Lab| lab.balancers[0].run_script("ip -o address show dev eth0").unwrap();

    // Less than the other one, and an address more.
    first
        .reconfigure(|config| {
            config.node_keys =
                floating::routers(50, FAST).replace(&format!("\"{v4}/24\""), &format!("\"{v4}/24\", \"{other}/32\""));
        })
        .unwrap();
    let report = first.lbctl(&["reload", "--dry-run"]).unwrap();
    let changes = report["changes"].as_array().unwrap().iter();
    let of_v4 = changes.filter(|change| change["vrrp"] == "v4");
    let keys: Vec<_> = of_v4.map(|change| change["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["addresses", "priority"], "{report}");
    first.lbctl(&["reload"]).unwrap();
    await_roles(&second, "master");
    first
        .reconfigure(|config| {
            config.node_keys = config.node_keys.replace("priority = 50", "priority = 250");
        })
        .unwrap();
    first.lbctl(&["reload"]).unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    eventually(PATIENCE, "it has the new address", || {
        shown(&lab).contains(&format!(" {other}/"))
    });

    // One that is gone from the file hands over.
    let all = config(&lab, 0, 250, FAST).node_keys;
    let tables: Vec<_> = all.split("[[vrrp]]").skip(1).collect();
    first
        .reconfigure(|config| config.node_keys = format!("[[vrrp]]{}", tables[0]))
        .unwrap();
    first.lbctl(&["reload"]).unwrap();
    eventually(PATIENCE, "the other one takes over what was left", || {
        roles(&second) == ["backup", "master"]
    });
    assert_eq!(has_addresses(&lab, 0).unwrap(), [true, false]);
    assert!(!shown(&lab).contains(&format!(" {other}/")), "{}", shown(&lab));

    // What a killed one left is taken off when it is not wanted any more.
    first.kill9().unwrap();
    first.reconfigure(|config| config.node_keys.clear()).unwrap();
    assert_eq!(has_addresses(&lab, 0).unwrap(), [true, false]);
    first.restart().unwrap();
    eventually(PATIENCE, "leftovers are taken off", || {
        has_addresses(&lab, 0).unwrap() == [false; 2]
    });
    await_roles(&second, "master");
    assert_eq!(
        first.lbctl(&["map", "dump", "ROUTER_ADDRESSES"]).unwrap(),
        Value::Array(Vec::new())
    );
}
