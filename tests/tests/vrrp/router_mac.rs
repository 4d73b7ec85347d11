//! Virtual addresses at a link-layer address of their own, which moves with them.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use harness::{
    floating::{self, ROUTERS, await_roles, await_service, floating, has_addresses, roles},
    keepalived::{self, Router},
    lab::Lab,
    lbd::Lbd,
    process::Process,
    wait::{PATIENCE, eventually},
    worker::Worker,
};

const KEYS: &str = "interval = \"100ms\"\ngrace = \"1s\"\nrouter_mac = true\n";
/// Those of [`ROUTERS`]: RFC 9568, section 7.3.
const MACS: [&str; 2] = ["00:00:5e:00:01:33", "00:00:5e:00:02:34"];

fn lab() -> Lab {
    let lab = floating::lab(2);
    // Switches know where a link-layer address is; what they do not know goes everywhere.
    lab.fabric.stop_flooding().unwrap();
    lab
}

fn pair(lab: &Lab) -> [Lbd<'_>; 2] {
    let first = floating::balancer(lab, 0, 200, KEYS).unwrap();
    await_roles(&first, "master");
    let second = floating::balancer(lab, 1, 100, KEYS).unwrap();
    await_roles(&second, "backup");
    [first, second]
}

/// Asks all neighbours anew where the addresses are.
fn assert_macs(lab: &Lab) {
    for address in floating() {
        let forget = format!("ip neigh del {address} dev eth0 || true");
        lab.client.run_script(&forget).unwrap();
    }
    await_service(lab);
    // Balancers forget clients, so that they have to ask for them.
    for balancer in &lab.balancers {
        let forget = "ip neigh flush dev eth0; ip -6 neigh flush dev eth0";
        balancer.run_script(forget).unwrap();
    }
    for (address, mac) in floating().into_iter().zip(MACS) {
        let found = lab.client.run_script(&format!("ip neigh show {address}")).unwrap();
        assert!(found.contains(mac), "{found}, not {mac}");
        // The kernel answers, too, and looks for the client before.
        let closed = SocketAddr::new(address, 9);
        let refused = lab
            .client
            .namespace
            .run(|| TcpStream::connect_timeout(&closed, PATIENCE));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
        let found = lab.client.run_script(&format!("ip neigh show {address}")).unwrap();
        assert!(found.contains(mac), "{found} after the kernel's answer, not {mac}");
    }
}

/// Which of the two devices of a balancer exist, and whether they are up.
fn devices(lab: &Lab, index: usize) -> Vec<Option<bool>> {
    let shown = lab.balancers[index]
        .run_script("ip -o -d link show type macvlan")
        .unwrap();
    let of = |mac: &&str| {
        shown
            .lines()
            .find(|line| line.contains(*mac))
            .map(|line| line.contains(",UP"))
    };
    MACS.iter().map(of).collect()
}

#[test]
fn the_link_layer_address_moves_with_the_addresses() {
    let lab = lab();
    let _workers = Worker::all(&lab);
    let [mut first, second] = pair(&lab);
    assert_macs(&lab);
    assert_eq!(
        (devices(&lab, 0), devices(&lab, 1)),
        (vec![Some(true); 2], vec![Some(false); 2])
    );
    assert_eq!(
        (has_addresses(&lab, 0).unwrap(), has_addresses(&lab, 1).unwrap()),
        (vec![true; 2], vec![false; 2])
    );

    // The first one is cut off, and comes back.
    lab.fabric.set_cable(&lab.balancers[0], false).unwrap();
    await_roles(&second, "master");
    assert_macs(&lab);
    lab.fabric.set_cable(&lab.balancers[0], true).unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    assert_macs(&lab);
    assert_eq!(devices(&lab, 1), [Some(false); 2]);

    // Its controller dies, and does not return in time: the other one has all of it.
    first.kill9().unwrap();
    await_roles(&second, "master");
    assert_macs(&lab);
    first.restart().unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    assert_macs(&lab);

    // It ends by SIGTERM.
    first.terminate().unwrap();
    await_roles(&second, "master");
    assert_macs(&lab);
    assert_eq!(devices(&lab, 0), [None; 2]);
}

#[test]
fn the_device_follows_the_configuration_and_leaves_nothing_behind() {
    let lab = lab();
    let _workers = Worker::all(&lab);
    let plain = KEYS.replace("true", "false");
    let mut only = floating::balancer(&lab, 0, 200, KEYS).unwrap();
    await_roles(&only, "master");
    assert_macs(&lab);

    // Somebody removes it; it is made again.
    for (name, _) in ROUTERS {
        let family = name.trim_start_matches('v');
        let device = format!("for device in $(ls /sys/class/net | grep '^vr{family}-'); do ip link del $device; done");
        lab.balancers[0].run_script(&device).unwrap();
    }
    eventually(PATIENCE, "the devices are there again", || {
        devices(&lab, 0) == [Some(true); 2] && has_addresses(&lab, 0).unwrap() == [true; 2]
    });
    await_roles(&only, "master");
    assert_macs(&lab);

    // It is not wanted any more.
    only.reconfigure(|config| config.node_keys = floating::routers(200, &plain))
        .unwrap();
    only.lbctl(&["reload"]).unwrap();
    eventually(PATIENCE, "the addresses are on the interface", || {
        let shown = lab.balancers[0].run_script("ip -o address show dev eth0").unwrap();
        floating().iter().all(|address| shown.contains(&format!(" {address}/")))
    });
    assert_eq!(devices(&lab, 0), [None; 2]);
    await_roles(&only, "master");
    await_service(&lab);

    // The same while nothing runs, there and back.
    for (keys, devices_after) in [(KEYS, [Some(true); 2]), (&plain, [None; 2])] {
        only.kill9().unwrap();
        only.reconfigure(|config| config.node_keys = floating::routers(200, keys))
            .unwrap();
        only.restart().unwrap();
        await_roles(&only, "master");
        assert_eq!(
            (devices(&lab, 0), has_addresses(&lab, 0).unwrap()),
            (devices_after.to_vec(), vec![true; 2])
        );
        let shown = lab.balancers[0].run_script("ip -o address show").unwrap();
        for address in floating() {
            assert_eq!(shown.matches(&format!(" {address}/")).count(), 1, "{shown}");
        }
        await_service(&lab);
    }
}

#[test]
fn what_a_dead_controller_left_is_taken_off_by_detach() {
    for keys in [KEYS.to_owned(), KEYS.replace("true", "false")] {
        let lab = lab();
        let mut only = floating::balancer(&lab, 0, 200, &keys).unwrap();
        await_roles(&only, "master");
        only.kill9().unwrap();
        assert_eq!(has_addresses(&lab, 0).unwrap(), [true; 2]);
        only.detach().unwrap();
        assert_eq!(
            (has_addresses(&lab, 0).unwrap(), devices(&lab, 0)),
            (vec![false; 2], vec![None; 2])
        );
    }
}

/// Runs keepalived on the second balancer, with the addresses at the same link-layer addresses.
fn keepalived(lab: &Lab, priority: u8, name: &str) -> Process {
    let routers: Vec<_> = ROUTERS
        .iter()
        .zip(floating())
        .map(|((_, number), address)| Router {
            number: *number,
            address,
            priority,
            interval: "0.1".to_owned(),
            keys: format!("use_vmac vrrp.{number}"),
        })
        .collect();
    keepalived::start(lab, 1, name, 3, &routers).unwrap()
}

#[test]
fn link_layer_addresses_agree_with_keepalived_s() {
    let lab = lab();
    let _workers = Worker::all(&lab);
    // It moves the addresses alone; packets are those of a balancer beside it that knows no VRRP.
    let mut config = floating::config(&lab, 1, 100, KEYS);
    config.node_keys.clear();
    let _beside = Lbd::start(&lab.balancers[1], config).unwrap();
    let mut other = keepalived(&lab, 150, "high");
    eventually(PATIENCE, "keepalived is master", || {
        has_addresses(&lab, 1).unwrap() == [true; 2]
    });
    await_service(&lab);
    let mut config = floating::config(&lab, 0, 100, KEYS);
    config.node_keys = floating::with_link_local(&config.node_keys);
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    floating::stays_backup(&lbd, 150, Duration::from_secs(2));
    other.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    other.wait(PATIENCE).unwrap();
    await_roles(&lbd, "master");
    assert_macs(&lab);

    // It stays master, and keepalived a backup.
    let lower = keepalived(&lab, 50, "low");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        (roles(&lbd), has_addresses(&lab, 1).unwrap()),
        (vec!["master".to_owned(); 2], vec![false; 2]),
        "{}",
        lower.log()
    );
    drop(lbd);
    eventually(PATIENCE, "keepalived takes over", || {
        has_addresses(&lab, 1).unwrap() == [true; 2]
    });
    await_service(&lab);
}
