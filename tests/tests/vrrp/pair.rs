//! VRRP between two balancers, and with keepalived on the other side.

use std::{
    io::ErrorKind,
    net::{IpAddr, TcpStream},
    time::Duration,
};

use harness::{
    config::Config,
    floating::{self, await_roles, await_service, await_turn, floating, roles, routers, turns},
    keepalived::{self, Router},
    lab::Lab,
    lbd::Lbd,
    process::Process,
    topology::Subnet,
    wait::{PATIENCE, eventually},
    worker::Worker,
};

/// The number of the first balancer's own address.
const FIRST_BALANCER: u8 = 11;

fn balancer<'a>(lab: &'a Lab, index: usize, priority: u8, keys: &str) -> Lbd<'a> {
    floating::balancer(lab, index, priority, keys).unwrap()
}

fn has_addresses(lab: &Lab, index: usize) -> Vec<bool> {
    floating::has_addresses(lab, index).unwrap()
}

#[test]
fn an_address_that_accepts_nothing_else_serves_its_services_alone() {
    let lab = floating::lab(1);
    let _workers = Worker::all(&lab);
    let keys = |accept: bool| format!("interval = \"100ms\"\naccept = {accept}");
    let mut lbd = balancer(&lab, 0, 200, &keys(false));
    await_roles(&lbd, "master");
    await_service(&lab);
    // There is no service at this port: the kernel would refuse the connection, if it knew of it.
    let knock = |address: IpAddr, patience: Duration| {
        let target = (address, 4711).into();
        let outcome = lab
            .client
            .namespace
            .run(|| TcpStream::connect_timeout(&target, patience));
        outcome.unwrap_err().kind()
    };
    for address in floating() {
        assert_eq!(knock(address, Duration::from_secs(1)), ErrorKind::TimedOut, "{address}");
    }
    let dropped = |lbd: &Lbd<'_>| {
        let node = lbd.lbctl(&["node", "status"]).unwrap();
        node["outcomes"]["not_accepted"].as_u64().unwrap()
    };
    let before = dropped(&lbd);
    assert!(before >= 2, "{before}");
    // The balancer's own addresses are none of that, and neighbours are answered for what moves.
    for like in floating() {
        assert_eq!(
            knock(lab.balancers[0].address_like(like), PATIENCE),
            ErrorKind::ConnectionRefused
        );
        let version = if like.is_ipv4() { "-4" } else { "-6" };
        lab.client
            .run_script(&format!("ip {version} neigh flush dev eth0"))
            .unwrap();
    }
    await_service(&lab);

    lbd.reconfigure(|config| config.node_keys = routers(200, &keys(true)))
        .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    for address in floating() {
        eventually(PATIENCE, "the kernel answers", || {
            knock(address, Duration::from_millis(500)) == ErrorKind::ConnectionRefused
        });
    }
    await_roles(&lbd, "master");
}

#[test]
fn the_address_moves_to_the_other_balancer_and_back() {
    let lab = floating::lab(2);
    let _workers = Worker::all(&lab);
    let mut first = balancer(&lab, 0, 200, "interval = \"100ms\"");
    await_roles(&first, "master");
    let second = balancer(&lab, 1, 100, "interval = \"100ms\"");
    await_roles(&second, "backup");
    await_service(&lab);
    assert_eq!(
        (has_addresses(&lab, 0), has_addresses(&lab, 1)),
        (vec![true; 2], vec![false; 2])
    );

    // The first one is cut off, and comes back.
    lab.fabric.set_cable(&lab.balancers[0], false).unwrap();
    await_roles(&second, "master");
    await_roles(&first, "fault");
    assert_eq!(has_addresses(&lab, 0), [false; 2]);
    await_service(&lab);
    lab.fabric.set_cable(&lab.balancers[0], true).unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    await_service(&lab);

    // An operator hands over; after a while, or on command, the better one takes it back.
    for on_command in [false, true] {
        let before = turns(&second);
        for name in ["v4", "v6"] {
            first.lbctl(&["vrrp", "release", name]).unwrap();
        }
        await_turn(&second, before);
        await_service(&lab);
        for name in ["v4", "v6"].iter().filter(|_| on_command) {
            first.lbctl(&["vrrp", "take", name]).unwrap();
        }
        await_roles(&first, "master");
        await_roles(&second, "backup");
    }
    eventually(PATIENCE, "the better one's adverts are heard", || {
        let refused = second.lbctl(&["vrrp", "take", "v4"]).unwrap_err();
        format!("{refused:#}").contains("has priority 200 and would take the addresses back at once")
    });
    assert_eq!(roles(&first), ["master"; 2]);
    let unknown = format!("{:#}", first.lbctl(&["vrrp", "release", "v5"]).unwrap_err());
    assert!(unknown.contains("there is no virtual router `v5`"), "{unknown}");

    // It ends by SIGTERM, and by SIGKILL.
    first.terminate().unwrap();
    await_roles(&second, "master");
    assert_eq!(has_addresses(&lab, 0), [false; 2]);
    await_service(&lab);
    first.restart().unwrap();
    await_roles(&first, "master");
    await_roles(&second, "backup");
    let events = second.lbctl(&["event", "list", "--limit", "1000"]).unwrap().to_string();
    assert!(
        events.contains("vrrp-master") && events.contains("vrrp-backup"),
        "{events}"
    );
}

#[test]
fn of_equals_the_one_with_the_higher_address_takes() {
    let lab = floating::lab(2);
    let both = [0, 1].map(|index| balancer(&lab, index, 200, "interval = \"100ms\"\ngroup = \"edge\""));
    let [first, second] = &both;
    eventually(PATIENCE, "one is master", || roles(first) != roles(second));
    if roles(first) == ["master"; 2] {
        floating::await_backup(second);
        second.lbctl(&["vrrp", "take", "v4"]).unwrap();
    }
    await_roles(second, "master");
    floating::await_backup(first);
    let refused = format!("{:#}", first.lbctl(&["vrrp", "take", "v4"]).unwrap_err());
    let why = "10.77.0.12 has priority 200 and would take the addresses back at once";
    assert!(refused.contains(why), "{refused}");
    assert_eq!(roles(second), ["master"; 2]);
}

#[test]
fn a_balancer_that_is_killed_is_master_again_when_it_returns() {
    let lab = floating::lab(1);
    let _workers = Worker::all(&lab);
    let mut only = balancer(&lab, 0, 100, "interval = \"100ms\"");
    await_roles(&only, "master");
    only.kill9().unwrap();
    // Its packet path and its addresses stay.
    assert_eq!(has_addresses(&lab, 0), [true; 2]);
    await_service(&lab);
    only.restart().unwrap();
    await_roles(&only, "master");
    await_service(&lab);
    only.terminate().unwrap();
    assert_eq!(has_addresses(&lab, 0), [false; 2]);
}

/// Runs keepalived on a balancer.
fn keepalived(lab: &Lab, priority: u8, version: u8, families: &[usize], keys: &str, name: &str) -> Process {
    let routers: Vec<_> = families
        .iter()
        .map(|family| Router {
            number: 51 + *family as u8,
            address: floating()[*family],
            priority,
            interval: if version == 3 { "0.5" } else { "1" }.to_owned(),
            keys: keys.to_owned(),
        })
        .collect();
    keepalived::start(lab, 1, name, version, &routers).unwrap()
}

/// keepalived as master and as backup; both agree.
fn interoperates_with_keepalived(version: u8, families: &[usize], keys: &str, own_keys: &str) {
    let lab = floating::lab(2);
    let interval = if version == 3 { "interval = \"500ms\"\n" } else { "" };
    let with = |priority: u8| {
        let all = routers(priority, &format!("version = {version}\n{interval}{own_keys}"));
        let tables: Vec<_> = all.split("[[vrrp]]").skip(1).collect();
        let wanted = families.iter().map(|family| format!("[[vrrp]]{}", tables[*family]));
        let mut config = Config::new(&lab, "node");
        config.node_keys = floating::with_link_local(&wanted.collect::<String>());
        Lbd::start(&lab.balancers[0], config).unwrap()
    };
    let addresses = |index: usize| {
        let all = has_addresses(&lab, index);
        families.iter().map(|family| all[*family]).collect::<Vec<_>>()
    };
    let all = |there: bool| vec![there; families.len()];

    let mut other = keepalived(&lab, 150, version, families, keys, "high");
    eventually(PATIENCE, "keepalived is master", || addresses(1) == all(true));
    let lbd = with(100);
    // Longer than a backup waits that does not understand the master's adverts.
    let quiet = Duration::from_secs(if version == 3 { 3 } else { 4 });
    floating::stays_backup(&lbd, 150, quiet);
    other.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    other.wait(PATIENCE).unwrap();
    await_roles(&lbd, "master");
    assert_eq!((addresses(0), addresses(1)), (all(true), all(false)));

    // It stays master, and keepalived a backup.
    let lower = keepalived(&lab, 50, version, families, keys, "low");
    std::thread::sleep(quiet + Duration::from_secs(1));
    assert_eq!((addresses(0), addresses(1)), (all(true), all(false)), "{}", lower.log());
    assert_eq!(roles(&lbd), vec!["master"; families.len()]);
    drop(lbd);
    eventually(PATIENCE, "keepalived takes over", || addresses(1) == all(true));
    drop(lower);
}

#[test]
fn a_clean_stop_is_heard_on_both_sides() {
    // A backup that hears no farewell waits for three intervals of ten seconds after the last
    // advert: for twenty at least.
    let at_once = Duration::from_secs(15);
    let lab = floating::lab(2);
    let keepalived = |name: &str, priority: u8, keys: &str| {
        let router = Router {
            number: 51,
            address: floating()[0],
            priority,
            interval: "10".to_owned(),
            keys: keys.to_owned(),
        };
        keepalived::start(&lab, 1, name, 3, &[router]).unwrap()
    };
    // The owner is master at once.
    let mut owner = keepalived("owner", 255, "state MASTER");
    eventually(PATIENCE, "keepalived is master", || has_addresses(&lab, 1)[0]);
    let mut config = Config::new(&lab, "node");
    let all = routers(250, "interval = \"10s\"\n");
    config.node_keys = format!("[[vrrp]]{}", all.split("[[vrrp]]").nth(1).unwrap());
    let mut lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    floating::await_backup(&lbd);
    owner.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    owner.wait(PATIENCE).unwrap();
    eventually(at_once, "lbd is master", || roles(&lbd) == ["master"]);

    let other = keepalived("other", 240, "");
    // It hears one advert at least.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(roles(&lbd), ["master"]);
    lbd.terminate().unwrap();
    eventually(at_once, "keepalived is master", || has_addresses(&lab, 1)[0]);
    drop(other);
}

#[test]
fn version_3_interoperates_with_keepalived() {
    interoperates_with_keepalived(3, &[0, 1], "", "");
}

#[test]
fn version_2_interoperates_with_keepalived() {
    interoperates_with_keepalived(2, &[0], "", "");
}

#[test]
fn version_2_with_a_password_interoperates_with_keepalived() {
    let password = "authentication {\n    auth_type PASS\n    auth_pass secret\n  }";
    interoperates_with_keepalived(2, &[0], password, "password = \"secret\"\n");
}

fn unicast_interoperates_with_keepalived(version: u8, family: usize, address: impl Fn(u8) -> IpAddr) {
    let [own, other] = [0, 1].map(|index| address(FIRST_BALANCER + index));
    let keys = format!("unicast_ttl 255\n  unicast_src_ip {other}\n  unicast_peer {{\n    {own}\n  }}");
    let own_keys = format!("source = \"{own}\"\npeers = [\"{other}\"]\n");
    interoperates_with_keepalived(version, &[family], &keys, &own_keys);
}

#[test]
fn unicast_of_version_3_interoperates_with_keepalived_over_ipv4() {
    unicast_interoperates_with_keepalived(3, 0, |number| Subnet::Fabric.v4(number).into());
}

#[test]
fn unicast_of_version_3_interoperates_with_keepalived_over_ipv6() {
    unicast_interoperates_with_keepalived(3, 1, |number| Subnet::Fabric.v6(number).into());
}

#[test]
fn unicast_of_version_2_interoperates_with_keepalived() {
    unicast_interoperates_with_keepalived(2, 0, |number| Subnet::Fabric.v4(number).into());
}

#[test]
fn preemption_interoperates_with_keepalived() {
    let lab = floating::lab(2);
    let table = |priority: u8, keys: &str| {
        let all = routers(priority, &format!("interval = \"500ms\"\n{keys}"));
        let first = all.split("[[vrrp]]").nth(1).unwrap();
        format!("[[vrrp]]{first}")
    };
    let mut config = Config::new(&lab, "node");
    config.node_keys = table(100, "");
    let mut lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    await_roles(&lbd, "master");
    // A better one comes, and takes over.
    let other = keepalived(&lab, 150, 3, &[0], "", "better");
    await_roles(&lbd, "backup");
    eventually(PATIENCE, "keepalived is master", || has_addresses(&lab, 1)[0]);
    // Ours becomes better, but does not want to.
    lbd.reconfigure(|config| config.node_keys = table(200, "preempt = false\n"))
        .unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        (roles(&lbd), has_addresses(&lab, 1)[0]),
        (vec!["backup".to_owned()], true)
    );
    // Now it does.
    lbd.reconfigure(|config| config.node_keys = table(200, "")).unwrap();
    lbd.lbctl(&["reload"]).unwrap();
    await_roles(&lbd, "master");
    eventually(PATIENCE, "keepalived releases the address", || {
        !has_addresses(&lab, 1)[0]
    });
    assert!(has_addresses(&lab, 0)[0]);
    // A better one that does not want to lets it be, and takes over when it ends.
    drop(other);
    let shy = keepalived(&lab, 250, 3, &[0], "nopreempt", "shy");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        (roles(&lbd), has_addresses(&lab, 1)[0]),
        (vec!["master".to_owned()], false),
        "{}",
        shy.log()
    );
    drop(lbd);
    eventually(PATIENCE, "keepalived takes over", || has_addresses(&lab, 1)[0]);
}
