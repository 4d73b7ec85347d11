//! What `lbctl` prints at a terminal.

use std::process::Command;

use harness::{
    config::{Config, Service},
    lab::{Lab, virtual_addresses},
    lbd::{Lbd, binary},
};

/// What a command prints at a terminal of its own, until it ends or for some seconds.
fn at_terminal(lbd: &Lbd<'_>, arguments: &str) -> String {
    let lbctl = binary("lbctl").unwrap().display().to_string();
    let socket = lbd.config().socket.display().to_string();
    let line = format!("timeout 5 {lbctl} --socket {socket} {arguments}");
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
