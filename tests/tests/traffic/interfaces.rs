//! Interfaces that are missing, go, come back and flap while the balancer works.

use std::{thread, time::Duration};

use harness::{
    client::Load,
    config::{Config, QUICK_HTTP_CHECK, Service},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    wait::{PATIENCE, eventually},
    witness::Witness,
    worker::Worker,
};
use serde_json::Value;

fn web(lab: &Lab) -> Config {
    let [v4, _] = virtual_addresses(0);
    // A check that a short interruption does not worry: what is seen is the packet path.
    let patient = QUICK_HTTP_CHECK.replace("fall = 2", "fall = 100");
    Config::new(lab, "one").with(Service::http(lab, "web", v4).health(&patient))
}

/// What `lbctl` says of an interface.
fn interface(lbd: &Lbd<'_>, name: &str) -> Value {
    let status = lbd.lbctl(&["node", "status"]).unwrap();
    let mut all = status["interfaces"].as_array().unwrap().iter();
    all.find(|interface| interface["name"] == name).unwrap().clone()
}

#[track_caller]
fn await_mode(lbd: &Lbd<'_>, name: &str, mode: &str) -> Value {
    eventually(PATIENCE, &format!("{name} is in mode {mode}"), || {
        interface(lbd, name)["xdp_mode"] == mode
    });
    interface(lbd, name)
}

fn warnings(lbd: &Lbd<'_>) -> String {
    lbd.lbctl(&["node", "status"]).unwrap()["warnings"].to_string()
}

#[test]
fn an_interface_that_is_missing_is_named_and_gets_the_program_whenever_it_comes() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let balancer = &lab.balancers[0];
    let mut config = web(&lab);
    config.interfaces.push("eth9".into());
    let mut lbd = Lbd::start(balancer, config).unwrap();
    lbd.await_all_up("web");
    assert!(warnings(&lbd).contains("eth9 does not exist"), "{}", warnings(&lbd));
    assert_eq!(interface(&lbd, "eth9")["xdp_mode"], "none");
    let witness = Witness::of(&lab);
    for _ in 0..3 {
        balancer
            .namespace
            .ip("link add eth9 type veth peer name eth8\nlink set eth8 up\nlink set eth9 up")
            .unwrap();
        await_mode(&lbd, "eth9", "native");
        eventually(PATIENCE, "no warnings are left", || warnings(&lbd) == "[]");
        balancer.namespace.ip("link delete eth9").unwrap();
        await_mode(&lbd, "eth9", "none");
        assert!(warnings(&lbd).contains("eth9 does not exist"), "{}", warnings(&lbd));
    }
    let kinds_of = |lbd: &Lbd<'_>| -> Vec<String> {
        let page = lbd.lbctl(&["event", "list"]).unwrap();
        let events = page["events"].as_array().unwrap().iter();
        let of_eth9 = events.filter(|event| event["interface"] == "eth9");
        of_eth9
            .map(|event| event["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut expected = vec!["interface-missing"];
    expected.extend(["interface-returned", "interface-missing"].repeat(3));
    let kinds: Vec<_> = kinds_of(&lbd)
        .into_iter()
        .filter(|kind| kind.starts_with("interface-"))
        .collect();
    assert_eq!(kinds, expected);
    // One that goes and comes while the controller is away.
    balancer.namespace.ip("link add eth9 type veth peer name eth8").unwrap();
    await_mode(&lbd, "eth9", "native");
    lbd.kill9().unwrap();
    balancer
        .namespace
        .ip("link delete eth9\nlink add eth9 type veth peer name eth8")
        .unwrap();
    lbd.restart().unwrap();
    assert_eq!(kinds_of(&lbd), ["program-attached", "link-down"]);
    balancer
        .namespace
        .ip("address add 192.0.2.99/32 dev eth9\naddress delete 192.0.2.99/32 dev eth9")
        .unwrap();
    balancer.namespace.ip("address add 192.0.2.98/32 dev eth9").unwrap();
    eventually(PATIENCE, "the address is an event", || {
        let events = lbd.lbctl(&["event", "list"]).unwrap().to_string();
        events.contains("address-added") && events.contains("192.0.2.98/32")
    });
    let attached = await_mode(&lbd, "eth9", "native");
    assert!(
        attached["problem"].as_str().unwrap().contains("eth9 is down"),
        "{attached}"
    );
    witness.assert_flawless("an interface beside comes and goes");
}

#[test]
fn another_interface_that_takes_the_name_gets_the_program() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let balancer = &lab.balancers[0];
    let add = "link add eth9 type veth peer name eth8";
    balancer.namespace.ip(add).unwrap();
    let mut config = web(&lab);
    config.interfaces.push("eth9".into());
    let lbd = Lbd::start(balancer, config).unwrap();
    let before = await_mode(&lbd, "eth9", "native");
    balancer
        .namespace
        .ip("link set eth9 name was9\nlink set eth8 name was8\nlink add eth9 type veth peer name eth8")
        .unwrap();
    eventually(PATIENCE, "the program is on the other interface", || {
        let now = interface(&lbd, "eth9");
        now["xdp_mode"] == "native" && now["ifindex"] != before["ifindex"]
    });
    assert_eq!(lbd.lbctl(&["node", "status"]).unwrap()["pid"], lbd.id().unwrap());
}

#[test]
fn connections_outlive_the_network_card_of_the_balancer() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let balancer = &lab.balancers[0];
    let lbd = Lbd::start(balancer, web(&lab)).unwrap();
    lbd.await_all_up("web");
    let before = interface(&lbd, "eth0");
    let witness = Witness::of(&lab);
    for _ in 0..2 {
        lab.fabric.remove_card(balancer).unwrap();
        await_mode(&lbd, "eth0", "none");
        lab.fabric.connect(balancer).unwrap();
        let after = await_mode(&lbd, "eth0", "native");
        // Only now. Before the program is attached, the kernel would reply to packets of flows with
        // RST.
        for address in virtual_addresses(0) {
            balancer.add_address(address).unwrap();
        }
        assert_ne!(after["ifindex"], before["ifindex"]);
        assert!(witness.is_flowing(), "log of lbd:\n{}", lbd.log());
    }
    eventually(PATIENCE, "no warnings are left", || warnings(&lbd) == "[]");
    let [v4, _] = virtual_addresses(0);
    Load::new((v4, 80).into()).run(&lab.client.namespace).assert_flawless();
    // A client that connects while there is no address may get an error; open connections do not.
    witness.assert_kept("the network card is replaced twice");
}

#[test]
fn connections_outlive_a_link_that_flaps() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let balancer = &lab.balancers[0];
    let lbd = Lbd::start(balancer, web(&lab)).unwrap();
    lbd.await_all_up("web");
    let witness = Witness::of(&lab);
    for turn in 0..6 {
        if turn % 2 == 0 {
            lab.fabric.set_cable(balancer, false).unwrap();
        } else {
            balancer.namespace.ip("link set eth0 down").unwrap();
        }
        eventually(PATIENCE, "the link is seen to be down", || {
            warnings(&lbd).contains("eth0 is down")
        });
        thread::sleep(Duration::from_millis(50));
        if turn % 2 == 0 {
            lab.fabric.set_cable(balancer, true).unwrap();
        } else {
            balancer.namespace.ip("link set eth0 up").unwrap();
        }
        eventually(PATIENCE, "the link is seen to be up", || warnings(&lbd) == "[]");
        assert!(witness.is_flowing(), "log of lbd:\n{}", lbd.log());
    }
    witness.assert_kept("the link flaps six times");
}

#[test]
fn a_link_that_flaps_takes_no_backend_down() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let balancer = &lab.balancers[0];
    // Four checks are in each flap. Three in a row do not time out only because other processes
    // keep the CPUs busy.
    let check = "type = \"http\"\npath = \"/healthz\"\ninterval = \"1s\"\ntimeout = \"1s\"\nrise = 2\nfall = 3\n";
    let [v4, _] = virtual_addresses(0);
    let config = Config::new(&lab, "one").with(Service::http(&lab, "web", v4).health(check));
    let mut lbd = Lbd::start(balancer, config).unwrap();
    lbd.await_all_up("web");
    let witness = Witness::of(&lab);
    let mut events = String::new();
    for turn in 0..4 {
        // A controller that has just begun knows which links its backends are behind, too.
        if turn > 1 {
            lbd.kill9().unwrap();
            lbd.restart().unwrap();
            eventually(
                PATIENCE,
                "it knows the next hops of its backends, and that they are healthy",
                || {
                    let backends = lbd.lbctl(&["backend", "list"]).unwrap();
                    let mut backends = backends.as_array().unwrap().iter();
                    backends.all(|row| row["next_hop"].is_object() && row["health"]["checks"].as_u64() > Some(1))
                },
            );
        }
        // On a busy machine a backend may have gone down before; only the flap counts.
        lbd.await_all_up("web");
        let before = lbd.lbctl(&["event", "list", "--limit", "1000"]).unwrap();
        let before = before["events"].as_array().unwrap().len();
        if turn % 2 == 0 {
            lab.fabric.set_cable(balancer, false).unwrap();
        } else {
            balancer.namespace.ip("link set eth0 down").unwrap();
        }
        thread::sleep(Duration::from_secs(4));
        if turn % 2 == 0 {
            lab.fabric.set_cable(balancer, true).unwrap();
        } else {
            balancer.namespace.ip("link set eth0 up").unwrap();
        }
        eventually(PATIENCE, "the link is seen to be up", || warnings(&lbd) == "[]");
        assert!(witness.is_flowing(), "log of lbd:\n{}", lbd.log());
        let after = lbd.lbctl(&["event", "list", "--limit", "1000"]).unwrap();
        for event in &after["events"].as_array().unwrap()[before..] {
            events += &event.to_string();
        }
    }
    assert!(!events.contains("backend-down"), "{events}");
    witness.assert_kept("the link flaps four times, while backends are checked");
    assert!(events.contains("link-down"), "{events}");
}

#[test]
fn a_bridge_below_works_in_generic_mode_and_its_port_may_leave_and_return() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let balancer = &lab.balancers[0];
    let [v4, v6] = virtual_addresses(0);
    balancer
        .namespace
        .ip(&format!(
            "link add br0 address {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             address flush dev eth0\nlink set eth0 master br0\nlink set br0 up\n\
             address add {}/24 dev br0\naddress add {v4}/32 dev br0\naddress add {v6}/128 dev br0 nodad",
            balancer.mac(),
            balancer.v4(),
        ))
        .unwrap();
    let mut config = web(&lab);
    config.interfaces = vec!["br0".into()];
    config.xdp_mode = "auto".into();
    let lbd = Lbd::start(balancer, config).unwrap();
    lbd.await_all_up("web");
    assert_eq!(interface(&lbd, "br0")["xdp_mode"], "generic");
    let witness = Witness::of(&lab);
    // A port that is up beside the bridge would hand packets of flows to the kernel, which answers
    // with RST.
    balancer
        .namespace
        .ip("link set eth0 down\nlink set eth0 nomaster")
        .unwrap();
    eventually(PATIENCE, "the bridge without a port is down", || {
        warnings(&lbd).contains("br0 is down")
    });
    balancer
        .namespace
        .ip("link set eth0 master br0\nlink set eth0 up")
        .unwrap();
    eventually(PATIENCE, "the bridge is up", || !warnings(&lbd).contains("down"));
    assert!(witness.is_flowing(), "log of lbd:\n{}", lbd.log());
    witness.assert_kept("the port of a bridge leaves and returns");
}
