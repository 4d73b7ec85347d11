//! Virtual routers while the interface changes below them: its addresses, the source of adverts,
//! devices, a suspended machine.

use std::{net::SocketAddr, time::Duration};

use harness::{
    config::QUICK_HTTP_CHECK,
    floating::{self, await_roles, await_service, floating, has_addresses, pair, roles},
    lab::{Lab, virtual_addresses},
    lbd::Lbd,
    prober::Prober,
    topology::Subnet,
    wait::{PATIENCE, eventually},
    worker::Worker,
};
use nix::sys::signal::Signal;

const FAST: &str = "interval = \"100ms\"\ngrace = \"1s\"\n";

fn shown(lab: &Lab, index: usize) -> String {
    lab.balancers[index].run_script("ip -o address show").unwrap()
}

#[test]
fn all_addresses_may_be_replaced_by_a_reload() {
    for keys in [FAST.to_owned(), format!("{FAST}router_mac = true\n")] {
        let lab = floating::lab(2);
        lab.fabric.stop_flooding().unwrap();
        let [mut first, mut second] = pair(&lab, &keys);
        let others = [Subnet::Fabric.v4(210).to_string(), Subnet::Fabric.v6(210).to_string()];
        let before = [first.lbctl(&["event", "list"]), second.lbctl(&["event", "list"])];
        let turns = before.map(|events| events.unwrap().to_string().matches("vrrp-master").count());
        for lbd in [&mut second, &mut first] {
            lbd.reconfigure(|config| {
                for (old, new) in floating().iter().zip(&others) {
                    config.node_keys = config.node_keys.replace(&format!("\"{old}/"), &format!("\"{new}/"));
                }
            })
            .unwrap();
            lbd.lbctl(&["reload"]).unwrap();
        }
        eventually(PATIENCE, "the master has the new ones alone", || {
            let shown = shown(&lab, 0);
            others.iter().all(|address| shown.contains(&format!(" {address}/")))
                && has_addresses(&lab, 0).unwrap() == [false; 2]
        });
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(
            (roles(&first), roles(&second)),
            (vec!["master".to_owned(); 2], vec!["backup".to_owned(); 2])
        );
        for (lbd, turns) in [&first, &second].into_iter().zip(turns) {
            // The packet path still knows it, and no other balancer took over meanwhile.
            let known = lbd.lbctl(&["map", "dump", "ROUTER_ADDRESSES"]).unwrap().to_string();
            assert!(
                others.iter().all(|address| known.contains(&format!("\"{address}\""))),
                "{known}"
            );
            let events = lbd.lbctl(&["event", "list"]).unwrap().to_string();
            assert_eq!(events.matches("vrrp-master").count(), turns, "{keys}: {}", lbd.log());
        }
    }
}

#[test]
fn without_an_address_to_send_from_no_virtual_router_is_master() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [first, second] = pair(&lab, FAST);
    let own = lab.balancers[0].v4();
    let [other, _] = virtual_addresses(0);
    lab.balancers[0]
        .run_script(&format!(
            "ip address del {own}/24 dev eth0; ip address del {other}/32 dev eth0"
        ))
        .unwrap();
    eventually(PATIENCE, "the other one has it", || {
        roles(&second) == ["master", "backup"] && roles(&first) == ["fault", "master"]
    });
    assert_eq!(
        (has_addresses(&lab, 0).unwrap(), has_addresses(&lab, 1).unwrap()),
        (vec![false, true], vec![true, false])
    );
    let refused = format!("{:#}", first.lbctl(&["vrrp", "take", "v4"]).unwrap_err());
    assert!(refused.contains("v4 is not active: "), "{refused}");
    let refused = format!("{:#}", first.lbctl(&["vrrp", "release", "v4"]).unwrap_err());
    assert!(refused.contains("not master of v4"), "{refused}");
    lab.balancers[0]
        .run_script(&format!("ip address add {own}/24 dev eth0"))
        .unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
}

#[test]
fn addresses_that_are_the_balancer_s_own_stay_on_it() {
    let lab = floating::lab(2);
    for address in floating() {
        lab.balancers[0].add_address(address).unwrap();
    }
    let mut owner = floating::balancer(&lab, 0, 255, FAST).unwrap();
    for turn in 0..3 {
        await_roles(&owner, "master");
        lab.fabric.set_cable(&lab.balancers[0], false).unwrap();
        await_roles(&owner, "fault");
        assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2], "turn {turn}");
        lab.fabric.set_cable(&lab.balancers[0], true).unwrap();
        await_roles(&owner, "master");
        if turn == 1 {
            owner.kill9().unwrap();
        } else {
            owner.terminate().unwrap();
        }
        assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2], "turn {turn}");
        owner.restart().unwrap();
    }
    owner.terminate().unwrap();
    owner.detach().unwrap();
    assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2]);
}

#[test]
fn a_master_that_slept_lets_the_one_be_that_took_over() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let [first, second] = pair(&lab, &format!("{FAST}preempt = false\n"));
    first.signal(Signal::SIGSTOP).unwrap();
    await_roles(&second, "master");
    first.signal(Signal::SIGCONT).unwrap();
    await_roles(&first, "backup");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        (roles(&first), roles(&second)),
        (vec!["backup".to_owned(); 2], vec!["master".to_owned(); 2])
    );
    assert_eq!(
        (has_addresses(&lab, 0).unwrap(), has_addresses(&lab, 1).unwrap()),
        (vec![false; 2], vec![true; 2])
    );
    await_service(&lab);
}

#[test]
fn what_a_dead_controller_left_is_taken_off_where_another_one_of_the_group_is_in_fault() {
    let lab = floating::lab(2);
    let keys = format!("{FAST}group = \"edge\"\n");
    let mut only = floating::balancer(&lab, 0, 200, &keys).unwrap();
    await_roles(&only, "master");
    only.kill9().unwrap();
    only.reconfigure(|config| {
        let (first, second) = config.node_keys.rsplit_once("\"eth0\"").unwrap();
        config.node_keys = format!("{first}\"eth9\"{second}");
    })
    .unwrap();
    only.restart().unwrap();
    await_roles(&only, "fault");
    eventually(PATIENCE, "it is taken off", || {
        has_addresses(&lab, 0).unwrap() == [false; 2]
    });
}

#[test]
fn what_a_dead_controller_left_is_taken_off_where_the_file_has_other_addresses() {
    for keys in [FAST.to_owned(), format!("{FAST}router_mac = true\n")] {
        let lab = floating::lab(2);
        let mut only = floating::balancer(&lab, 0, 200, &keys).unwrap();
        await_roles(&only, "master");
        only.kill9().unwrap();
        assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2]);
        let others = [Subnet::Fabric.v4(210).to_string(), Subnet::Fabric.v6(210).to_string()];
        only.reconfigure(|config| {
            for (old, new) in floating().iter().zip(&others) {
                config.node_keys = config.node_keys.replace(&format!("\"{old}/"), &format!("\"{new}/"));
            }
        })
        .unwrap();
        only.restart().unwrap();
        await_roles(&only, "master");
        eventually(PATIENCE, "it has the others alone", || {
            let shown = shown(&lab, 0);
            let has_others = others.iter().all(|address| shown.contains(&format!(" {address}/")));
            has_others && has_addresses(&lab, 0).unwrap() == [false; 2]
        });
    }
}

#[test]
fn a_device_that_somebody_puts_down_is_put_up_again() {
    let lab = floating::lab(2);
    lab.fabric.stop_flooding().unwrap();
    let _workers = Worker::all(&lab);
    let [first, second] = pair(&lab, &format!("{FAST}router_mac = true\n"));
    await_service(&lab);
    let down = "for device in $(ls /sys/class/net | grep '^vr'); do ip link set $device down; done";
    lab.balancers[0].run_script(down).unwrap();
    eventually(PATIENCE, "it is up again", || {
        let shown = lab.balancers[0].run_script("ip -o link show type macvlan").unwrap();
        shown.matches(",UP").count() == 2 && has_addresses(&lab, 0).unwrap() == [true; 2]
    });
    await_service(&lab);
    assert_eq!(
        (roles(&first), roles(&second)),
        (vec!["master".to_owned(); 2], vec!["backup".to_owned(); 2])
    );
}

#[test]
fn a_balancer_whose_services_are_checked_takes_part_once_they_are() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let mut config = floating::config(&lab, 0, 200, FAST);
    for service in &mut config.services {
        QUICK_HTTP_CHECK.clone_into(&mut service.health);
    }
    // It depends on nothing else, and nothing is pinned from before.
    let first = Lbd::start(&lab.balancers[0], config).unwrap();
    await_roles(&first, "master");
    await_service(&lab);
    // Its own questions come from its own address, not from one that may be elsewhere.
    let [_, v6] = floating();
    let worker = lab.workers[0].address_like(v6);
    let route = lab.balancers[0]
        .run_script(&format!("ip -6 route get {worker}"))
        .unwrap();
    assert!(
        route.contains(" src ") && !route.contains(&format!("src {v6} ")),
        "{route}"
    );
}

#[test]
fn a_balancer_that_was_cut_off_leaves_the_addresses_until_it_sees_its_workers() {
    type Cut = fn(&Lab, bool);
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let start = |index: usize, priority| {
        let mut config = floating::config(&lab, index, priority, FAST);
        for service in &mut config.services {
            service.health =
                "type = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 3\nfall = 2\n"
                    .to_owned();
        }
        Lbd::start(&lab.balancers[index], config).unwrap()
    };
    let first = start(0, 200);
    await_roles(&first, "master");
    let second = start(1, 100);
    await_roles(&second, "backup");
    let are_down = || {
        let services = first.lbctl(&["service", "list"]).unwrap();
        let mut rows = services.as_array().unwrap().iter();
        rows.all(|service| service["backends_up"] == 0)
    };
    let returns = |cut: &Cut, what: &str| {
        let target = SocketAddr::new(floating()[0], 80);
        let prober = Prober::start(&lab.client.namespace, target, Duration::from_millis(10));
        cut(&lab, false);
        await_roles(&first, "master");
        await_roles(&second, "backup");
        std::thread::sleep(Duration::from_millis(500));
        let outage = prober.stop();
        assert_eq!(outage.failed, 0, "{what}: {outage:?}; {}", first.log());
    };
    let cuts: [(&str, Cut); 2] = [
        ("cable", |lab, is_cut| {
            lab.fabric.set_cable(&lab.balancers[0], !is_cut).unwrap();
        }),
        ("partition", |lab, is_cut| {
            lab.fabric.set_silent(&lab.balancers[0], is_cut).unwrap();
        }),
    ];
    for (what, cut) in cuts {
        // A cut so short that its workers stay up: where its link was down, its neighbours are
        // forgotten all the same.
        cut(&lab, true);
        await_roles(&second, "master");
        await_service(&lab);
        returns(&cut, &format!("short {what}"));

        cut(&lab, true);
        await_roles(&second, "master");
        await_service(&lab);
        eventually(PATIENCE, "its checks take all workers down", are_down);
        returns(&cut, what);
        assert!(!are_down(), "{what}");
    }
}

#[test]
fn adverts_that_do_not_match_are_reported() {
    let lab = floating::lab(2);
    let first = floating::balancer(&lab, 0, 200, FAST).unwrap();
    await_roles(&first, "master");
    let others = "interval = \"200ms\"\ngrace = \"1s\"\n";
    let second = floating::balancer(&lab, 1, 100, others).unwrap();
    eventually(PATIENCE, "the other interval is reported once for each", || {
        let events = second
            .lbctl(&["event", "list", "--kind", "vrrp-advert-mismatch"])
            .unwrap();
        let events = events["events"].as_array().cloned().unwrap_or_default();
        let mut routers: Vec<_> = events.iter().map(|event| event["vrrp"].as_str().unwrap()).collect();
        routers.sort_unstable();
        let cause = "10.77.0.11 sends an advert every 100ms, this balancer every 200ms (`interval`)";
        routers == ["v4", "v6"] && events.iter().any(|event| event["cause"] == cause)
    });
}

#[test]
fn clients_find_the_addresses_while_they_are_handed_over() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    // At adverts of a second the next master comes after 0.6 of one.
    let [mut first, second] = pair(&lab, "interval = \"1s\"\n");
    let target = SocketAddr::new(floating()[0], 80);
    let prober = Prober::start(&lab.client.namespace, target, Duration::from_millis(20));
    let forgets = || {
        let script = "for turn in $(seq 30); do ip neigh flush dev eth0; sleep 0.05; done";
        lab.client.run_script(script).unwrap();
    };
    std::thread::scope(|scope| {
        let forgetting = scope.spawn(forgets);
        std::thread::sleep(Duration::from_millis(200));
        first.terminate().unwrap();
        forgetting.join().unwrap();
    });
    let outage = prober.stop();
    await_roles(&second, "master");
    assert_eq!(has_addresses(&lab, 0).unwrap(), [false; 2]);
    // Fewer than come in a tenth of a second: one that is asked for while it is forgotten may be
    // lost.
    assert!(outage.failed < 5, "{outage:?}");
}

#[test]
fn two_thousand_addresses_stay_where_they_are_and_move_together() {
    const ROUTERS: u32 = 100;
    const ADDRESSES: u32 = 20;
    let lab = floating::lab(2);
    let start = |index: usize, priority| {
        let mut config = floating::config(&lab, index, priority, FAST);
        config.node_keys = (1..=ROUTERS)
            .map(|router| {
                let address = |number| format!("\"10.200.{router}.{number}/32\"");
                let addresses: Vec<_> = (1..=ADDRESSES).map(address).collect();
                format!(
                    "[[vrrp]]\nname = \"r{router}\"\ninterface = \"eth0\"\nrouter_id = {router}\naddresses = [{}]\n\
                     priority = {priority}\n{FAST}\n",
                    addresses.join(", ")
                )
            })
            .collect();
        Lbd::start(&lab.balancers[index], config).unwrap()
    };
    let has = |index: usize| shown(&lab, index).matches(" 10.200.").count();
    let all = (ROUTERS * ADDRESSES) as usize;
    let mut first = start(0, 200);
    await_roles(&first, "master");
    let second = start(1, 100);
    await_roles(&second, "backup");
    std::thread::sleep(Duration::from_secs(5));
    let turns = |lbd: &Lbd<'_>| {
        let events = lbd
            .lbctl(&["event", "list", "--limit", "1000", "--kind", "vrrp-master"])
            .unwrap()
            .to_string();
        events.matches("vrrp-master").count()
    };
    assert_eq!(
        (turns(&first), turns(&second)),
        (ROUTERS as usize, 0),
        "{}",
        second.log()
    );
    assert_eq!((has(0), has(1)), (all, 0));
    first.terminate().unwrap();
    await_roles(&second, "master");
    eventually(PATIENCE, "the other one has them all", || (has(0), has(1)) == (0, all));
}
