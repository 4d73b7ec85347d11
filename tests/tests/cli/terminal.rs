//! What `lbctl` prints at a terminal.

use std::process::Command;

use harness::{
    client::Load,
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::{Lbd, binary},
    worker::Worker,
};

/// What a command prints at a terminal of its own, until it ends or for some seconds.
fn at_terminal(lbd: &Lbd<'_>, arguments: &str) -> String {
    let lbctl = binary("lbctl").unwrap().display().to_string();
    let socket = lbd.config().socket.display().to_string();
    let maps = format!("--bpffs {} --node {}", lbd.config().bpffs.display(), lbd.config().name);
    let line = format!("env COLUMNS=80 timeout 5 {lbctl} --socket {socket} {maps} {arguments}");
    let mut script = Command::new("script");
    let output = script.args(["-qec", &line, "/dev/null"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

#[test]
fn json_is_readable_once_and_one_line_each_time_while_watching() {
    let lab = Lab::new().unwrap();
    let [v4, _] = virtual_addresses(0);
    let config = Config::new(&lab, "one").with(Service::http(&lab, "web", v4));
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    let once = at_terminal(&lbd, "--json service list");
    assert!(once.lines().count() > 1, "{once}");
    let watched = at_terminal(&lbd, "--json --watch=1 service list");
    assert!(watched.lines().count() > 0, "{watched}");
    for line in watched.lines() {
        let found: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(found.is_ok(), "{line:?} in:\n{watched}");
    }
}

#[test]
fn what_is_shown_fits_eighty_columns_and_loses_nothing_that_matters() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let [v4, v6] = virtual_addresses(0);
    let mut config = Config::new(&lab, "one");
    for (name, address) in [("web", v4), ("web6", v6)] {
        config = config.with(Service::http(&lab, name, address));
    }
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    for address in [v4, v6] {
        Load::new((address, 80).into())
            .run(&lab.client.namespace)
            .assert_flawless();
    }
    let mut commands: Vec<String> = lb_common::maps::ALL
        .iter()
        .map(|map| format!("map dump {} --limit 50", map.name))
        .collect();
    let explain = format!("explain tcp {}:40000 {v4}:80", lab.client.address_like(v4));
    let shown = [
        "node status",
        "service list",
        "backend list",
        "flow list",
        "event list",
        "map list",
        "map stats",
    ];
    commands.extend(shown.into_iter().chain([explain.as_str()]).map(str::to_owned));
    for command in &commands {
        let text = at_terminal(&lbd, command);
        assert!(!text.is_empty(), "{command}");
        // A path is as long as it is.
        for line in text.lines().filter(|line| !line.starts_with("config ")) {
            assert!(line.chars().count() <= 80, "{command}: {line:?} in\n{text}");
        }
    }
    let explained = at_terminal(&lbd, &explain);
    assert!(!explained.contains('…'), "{explained}");
    let service = at_terminal(&lbd, "map dump SERVICES");
    assert!(service.contains("on_backend_down=reset"), "{service}");
    let none = at_terminal(&lbd, "map dump PUNTS");
    assert!(none.contains("cannot be read"), "{none}");
}
