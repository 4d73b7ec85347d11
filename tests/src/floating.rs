//! Addresses that move between balancers by VRRP.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use hyper::{Method, body::Bytes};
use serde_json::Value;

use crate::{
    client::fetch,
    config::{Config, Service},
    lab::{Lab, Plan},
    lbd::Lbd,
    topology::Subnet,
    wait::{PATIENCE, eventually, until},
};

/// The number of the addresses that move.
const FLOATING: u8 = 200;

/// The names of the virtual routers for both families, and their numbers.
pub const ROUTERS: [(&str, u8); 2] = [("v4", 51), ("v6", 52)];

/// A network with so many balancers.
///
/// # Panics
///
/// When the machine cannot have it.
pub fn lab(balancers: u8) -> Lab {
    let plan = Plan {
        balancers,
        ..Plan::default()
    };
    Lab::build(plan).expect("a network")
}

/// The addresses that move, one of each family.
pub fn floating() -> [IpAddr; 2] {
    [Subnet::Fabric.v4(FLOATING).into(), Subnet::Fabric.v6(FLOATING).into()]
}

/// Tables of a configuration: a virtual router for each family.
pub fn routers(priority: u8, keys: &str) -> String {
    let [v4, v6] = floating();
    let addresses = [format!("{v4}/24"), format!("{v6}/64")];
    let tables = ROUTERS.iter().zip(addresses).map(|((name, number), address)| {
        format!(
            "[[vrrp]]\nname = \"{name}\"\ninterface = \"eth0\"\nrouter_id = {number}\naddresses = [\"{address}\"]\n\
             priority = {priority}\n{keys}\n"
        )
    });
    tables.collect()
}

/// A configuration with those, and a service at each address that moves.
pub fn config(lab: &Lab, index: usize, priority: u8, keys: &str) -> Config {
    let service = |name: &str, address: IpAddr| {
        // With a source of its own, a balancer's connections never meet those of another one at a
        // worker.
        let own = lab.balancers[index].address_like(address);
        Service::http(lab, name, address).keys(&format!("source = [\"{own}\"]"))
    };
    let [v4, v6] = floating();
    let mut config = Config::new(lab, &format!("node-{index}"))
        .with(service("v4", v4))
        .with(service("v6", v6));
    // These tables are before the services in the file.
    config.node_keys = routers(priority, keys);
    config
}

/// A balancer of that configuration.
///
/// # Errors
///
/// When it does not start.
pub fn balancer<'a>(lab: &'a Lab, index: usize, priority: u8, keys: &str) -> Result<Lbd<'a>> {
    Lbd::start(&lab.balancers[index], config(lab, index, priority, keys))
}

/// What a balancer is to each virtual router.
pub fn roles(lbd: &Lbd<'_>) -> Vec<String> {
    let status = lbd.lbctl(&["vrrp", "status"]).unwrap_or_default();
    let rows = status.as_array().into_iter().flatten();
    rows.map(|row: &Value| row["role"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Waits until a balancer is the same to all virtual routers.
///
/// # Panics
///
/// When it does not become so.
#[track_caller]
pub fn await_roles(lbd: &Lbd<'_>, role: &str) {
    let reached = until(PATIENCE, || {
        let roles = roles(lbd);
        !roles.is_empty() && roles.iter().all(|now| now == role)
    });
    assert!(reached, "{:?}, not {role}; log of lbd:\n{}", roles(lbd), lbd.log());
}

/// How often a balancer became master of a virtual router.
///
/// # Panics
///
/// When it does not say so.
#[track_caller]
pub fn turns(lbd: &Lbd<'_>) -> usize {
    let arguments = ["event", "list", "--kind", "vrrp-master", "--limit", "1000"];
    let events = lbd.lbctl(&arguments).expect("the events are shown");
    events["events"].as_array().map_or(0, Vec::len)
}

/// Waits until a balancer has become master of both virtual routers since it had had so many turns,
/// be it for a short time.
///
/// # Panics
///
/// When it does not.
#[track_caller]
pub fn await_turn(lbd: &Lbd<'_>, before: usize) {
    eventually(PATIENCE, "it becomes master", || turns(lbd) >= before + ROUTERS.len());
}

/// Lets a while pass in which a backup of all virtual routers stays one, because it understands the
/// adverts of a master of that priority.
///
/// # Panics
///
/// When it does not stay so, or refuses adverts.
#[track_caller]
pub fn stays_backup(lbd: &Lbd<'_>, master_priority: u8, length: Duration) {
    await_roles(lbd, "backup");
    std::thread::sleep(length);
    let status = lbd.lbctl(&["vrrp", "status"]).expect("the status is shown");
    for row in status.as_array().into_iter().flatten() {
        assert_eq!(
            (&row["role"], &row["master_priority"], &row["refused"]),
            (&"backup".into(), &master_priority.into(), &serde_json::json!({})),
            "{row}; log of lbd:\n{}",
            lbd.log()
        );
    }
}

/// Tables of virtual routers with a link-local address before the IPv6 one, as other
/// implementations have it.
#[must_use]
pub fn with_link_local(tables: &str) -> String {
    let [_, v6] = floating();
    tables.replace(&format!("[\"{v6}"), &format!("[\"fe80::c8/64\", \"{v6}"))
}

/// Asks the services at the addresses that move until they answer.
///
/// # Panics
///
/// When one does not.
#[track_caller]
pub fn await_service(lab: &Lab) {
    for address in floating() {
        eventually(PATIENCE, "a request is answered", || {
            let target = SocketAddr::new(address, 80);
            let patience = Duration::from_millis(500);
            fetch(&lab.client.namespace, target, Method::GET, "/", Bytes::new(), patience).is_ok()
        });
    }
}

/// Which of the addresses that move a balancer has.
///
/// # Errors
///
/// When that cannot be asked.
pub fn has_addresses(lab: &Lab, index: usize) -> Result<Vec<bool>> {
    let text = lab.balancers[index].run_script("ip -o address show")?;
    Ok(floating()
        .map(|address| text.contains(&format!(" {address}/")))
        .to_vec())
}

/// Waits until a balancer is backup of all virtual routers, and hears their master.
///
/// # Panics
///
/// When it does not come to that.
#[track_caller]
pub fn await_backup(lbd: &Lbd<'_>) {
    await_roles(lbd, "backup");
    eventually(PATIENCE, "the backup hears the master", || {
        let status = lbd.lbctl(&["vrrp", "status"]).expect("the status is shown");
        let mut rows = status.as_array().into_iter().flatten();
        rows.all(|row| !row["master"].is_null())
    });
}

/// Two balancers with those keys, of which the first one is master and heard by the second.
///
/// # Panics
///
/// When it does not come to that.
#[track_caller]
pub fn pair<'a>(lab: &'a Lab, keys: &str) -> [Lbd<'a>; 2] {
    let first = balancer(lab, 0, 200, keys).expect("the first balancer starts");
    await_roles(&first, "master");
    let second = balancer(lab, 1, 100, keys).expect("the second balancer starts");
    await_backup(&second);
    [first, second]
}
